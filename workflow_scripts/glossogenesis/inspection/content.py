"""What is shown of a file or folder, and how values, sizes and provenance become text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.provenance import METADATA_KEY
from glossogenesis.workflow.registry import words_by_kind

KINDS = words_by_kind()
"""Artifacts by the `kind` in their provenance, and by the end of their names or, where files of one
kind differ, by their whole names."""

OTHER_KINDS = {
    ".csv": "numbers as text",
    ".tsv": "sheet",
    ".svg": "figure",
    ".pdf": "figure",
    ".html": "report",
    ".parquet": "table without provenance",
    ".safetensors": "weights of a model",
    ".json": "configuration or tokenizer of a model",
}
"""Files that carry no provenance, by the end of their names."""

LONGEST_TEXT = 400
LONGEST_LIST = 12

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Section:
    """A titled table, or a text where `headers` is empty.

    `records` marks rows of data, which are laid out one below the other where they are wide.
    """

    title: str
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    text: str = ""
    records: bool = False


@dataclass(frozen=True)
class Inspection:
    """Everything that is shown of one file or folder."""

    path: Path
    kind: str
    facts: Facts
    sections: tuple[Section, ...]


def kind_in_words(path: Path, provenance: Mapping[str, Any] | None) -> str:
    """Return what a file is, by its provenance or else by the end of its name."""
    if provenance is None:
        return OTHER_KINDS.get(path.suffix, "other file")
    kind = str(provenance.get("kind"))
    return KINDS.get((kind, path.name), KINDS.get((kind, path.suffix), kind))


def provenance_in(path: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the provenance in a file's metadata, None where it has none.

    It is returned as a dict, not as a `Provenance`, so that files of any version can be shown.
    """
    if METADATA_KEY not in metadata:
        return None
    try:
        content = json.loads(metadata[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise damaged(path, "provenance", error) from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: its provenance is no JSON object; delete it and rerun")
    return content


def provenance_in_json(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the provenance in a manifest or in an autoencoder's `cfg.json`, None without one."""
    provenance = content.get("provenance")
    if provenance is None and isinstance(metadata := content.get("metadata"), dict):
        own = metadata.get(METADATA_KEY)
        provenance = own.get("provenance") if isinstance(own, dict) else None
    return provenance if isinstance(provenance, dict) else None


def origin(path: Path, provenance: Mapping[str, Any] | None) -> Facts:
    """Return a file's size, and what of its provenance fits a line each."""
    size = ("size", size_in_words(path.stat().st_size))
    if provenance is None:
        return (size, ("provenance", "no provenance"))
    names = ("study", "model", "checkpoint", "revision", "layer", "seed", "dtype", "device", "code")
    known = tuple(
        (name, str(provenance[name])) for name in names if provenance.get(name) is not None
    )
    libraries = ", ".join(
        f"{name} {version}" for name, version in _items(provenance.get("libraries"))
    )
    schema_version = str(provenance.get("schema_version"))
    return (size, *known, ("libraries", libraries), ("schema version", schema_version))


def provenance_sections(provenance: Mapping[str, Any] | None) -> Iterator[Section]:
    """Yield the digests of inputs, the settings used and other facts, of those that there are."""
    if provenance is None:
        return
    if inputs := _items(provenance.get("inputs")):
        rows = tuple((name, cell(digest)) for name, digest in inputs)
        yield Section("Made from", ("input", "SHA-256"), rows)
    yield Section("Settings used", text=as_yaml(provenance.get("settings")))
    if facts := provenance.get("facts"):
        yield Section("Facts", text=as_yaml(facts))


def _items(content: Any) -> list[tuple[str, Any]]:
    """Return what a mapping holds, nothing where a file of another kind has none there."""
    return list(content.items()) if isinstance(content, dict) else []


def as_yaml(content: Any) -> str:
    """Return a mapping as YAML, a key a line, with short lists and mappings on one line."""
    if not content:
        return "none"
    if not isinstance(content, dict):
        return cell(content)
    lines: list[str] = []
    for key, value in content.items():
        flow = None if isinstance(value, list | dict) and value else False
        lines.append(
            yaml.safe_dump(
                {key: value},
                allow_unicode=True,
                sort_keys=False,
                default_flow_style=flow,
                width=100,
            )
        )
    return "".join(lines).rstrip()


def size_in_words(size: float) -> str:
    """Return a number of bytes as, for example, `3.4 GB` (powers of 1000)."""
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def cell(value: Any) -> str:
    """Return a value as text, cut only where it is very long, and then with its true length."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        shown = ", ".join(cell(item) for item in value[:LONGEST_LIST])
        more = len(value) - LONGEST_LIST
        return f"[{shown}, … {more} more]" if more > 0 else f"[{shown}]"
    text = str(value).replace("\n", "⏎")
    if len(text) > LONGEST_TEXT:
        return f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"
    return text


def damaged(path: Path, what: str, error: Exception) -> StudyError:
    """Return the error of a file that cannot be read to its end."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return StudyError(f"{path}: damaged {what} ({reason}); delete it and rerun the workflow")
