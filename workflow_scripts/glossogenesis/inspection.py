"""What a file or folder of a study is: its kind, schema, provenance and first rows, in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from safetensors import SafetensorError, safe_open

from glossogenesis.errors import StudyError
from glossogenesis.provenance import METADATA_KEY
from glossogenesis.storage.atomic import read_json

KINDS = {
    "pretraining": "manifest of a pretraining run",
    "training": "loss and learning rate over a pretraining run",
    "checkpoint": "manifest of a checkpoint",
    "prompts": "prompts of a model with their tokens",
    "states": "source states of a checkpoint",
    "patching": "patched and unpatched answers of a checkpoint",
    "concepts_accuracy": "table of accuracies over all checkpoints",
    "concepts_outcomes": "table of outcomes over all checkpoints",
    "concepts_probability": "table of first-token probabilities over all checkpoints",
}
"""Artifacts by the `kind` in their provenance; results/README.md uses the same words."""

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

    `records` marks rows of data, which may be laid out one below the other if they are wide.
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


def inspect_path(path: Path, rows: int = 5) -> Inspection:
    """Describe a file or folder, with the first `rows` rows of a table.

    StudyError where it is missing, damaged, or of a kind that is not known.
    """
    readers: dict[str, Callable[[Path, int], Inspection]] = {
        ".parquet": _parquet,
        ".csv": _delimited,
        ".tsv": _delimited,
        ".safetensors": lambda file, _: _tensors(file),
        ".json": lambda file, _: _manifest(file),
    }
    try:
        if path.is_dir():
            is_checkpoint = (path / "config.json").is_file()
            return _checkpoint_folder(path) if is_checkpoint else _folder(path)
        if not path.exists():
            raise StudyError(f"{path}: no such file or folder")
        if path.suffix not in readers:
            raise StudyError(
                f"{path}: not a file that can be inspected; give a folder or a file that ends in "
                f"{', '.join(readers)}"
            )
        return readers[path.suffix](path, rows)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror})") from None


def size_in_words(size: float) -> str:
    """Return a number of bytes as, for example, `3.4 GB` (powers of 1000)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _parquet(path: Path, rows: int) -> Inspection:
    try:
        provenance = _provenance(path, pl.read_parquet_metadata(path))
        return _table(path, pl.scan_parquet(path), rows, provenance)
    except pl.exceptions.PolarsError as error:
        raise _damaged(path, "Parquet file", error) from None


def _delimited(path: Path, rows: int) -> Inspection:
    separator = "\t" if path.suffix == ".tsv" else ","
    quote = None if path.suffix == ".tsv" else '"'
    try:
        frame = pl.scan_csv(path, separator=separator, quote_char=quote)
        table = _table(path, frame, rows, None)
    except pl.exceptions.PolarsError as error:
        raise _damaged(path, "table", error) from None
    twin = path.with_suffix(".parquet")
    if not twin.is_file():
        return table
    copied = ("copy of", f"{twin}, which carries the provenance")
    return Inspection(path, table.kind, (copied, *table.facts), table.sections)


def _table(
    path: Path, frame: pl.LazyFrame, rows: int, provenance: Mapping[str, Any] | None
) -> Inspection:
    """Describe a table, reading no more of it than its first rows and its empty cells' number."""
    schema = frame.collect_schema()
    counted = frame.select(pl.len().alias(""), pl.all().null_count()).collect().row(0)
    first = frame.head(rows).collect()
    columns = tuple(
        (name, str(dtype), str(empty))
        for (name, dtype), empty in zip(schema.items(), counted[1:], strict=True)
    )
    shape = (("rows", f"{counted[0]:,}"), ("columns", str(len(columns))))
    shown = tuple(tuple(_cell(value) for value in row) for row in first.rows())
    sections = (
        *_provenance_sections(provenance),
        Section("Columns", ("column", "type", "empty cells"), columns),
        Section(f"First {first.height} rows", tuple(schema.names()), shown, records=True),
    )
    return Inspection(path, _kind(path, provenance), (*_origin(path, provenance), *shape), sections)


def _tensors(path: Path) -> Inspection:
    # torch takes seconds to import, and only tensors need it.
    from glossogenesis.inspection_of_tensors import tensor_rows

    try:
        with safe_open(str(path), framework="np") as file:
            provenance = _provenance(path, file.metadata() or {})
        rows = tuple(tensor_rows(path))
    except SafetensorError as error:
        raise _damaged(path, "safetensors file", error) from None
    headers = ("tensor", "type", "shape", "least", "mean", "greatest", "NaN")
    shape = (("tensors", f"{len(rows):,}"),)
    return Inspection(
        path,
        _kind(path, provenance),
        (*_origin(path, provenance), *shape),
        (*_provenance_sections(provenance), Section("Tensors", headers, rows)),
    )


def _manifest(path: Path) -> Inspection:
    content = read_json(path)
    if not isinstance(content, dict):
        raise StudyError(f"{path}: not a manifest, which is a JSON object")
    provenance = content.pop("provenance", None)
    weights = content.pop("weights", None) or {}
    folder = Path(content.get("folder", path.parent))
    files = tuple(
        (name, size_in_words(facts["bytes"]), _state(folder / name, facts["bytes"]), sha256)
        for name, facts in weights.items()
        if (sha256 := facts.get("sha256", ""))
    )
    headers = ("weights", "size", "on disk", "SHA-256")
    sections = (
        Section("Contents", text=_yaml(content)),
        *([Section("Weights", headers, files)] if files else []),
        *_provenance_sections(provenance),
    )
    return Inspection(path, _kind(path, provenance), _origin(path, provenance), sections)


def _state(file: Path, size: int) -> str:
    """Say whether a file is where a manifest says and in full."""
    if not file.is_file():
        return "missing"
    actual = file.stat().st_size
    return "in place" if actual == size else f"{actual} bytes instead of {size}"


def _checkpoint_folder(path: Path) -> Inspection:
    """Describe a folder in the transformers format, from its configuration and headers."""
    config = read_json(path / "config.json")
    weights = sorted(path.glob("*.safetensors"))
    rows = []
    parameters = 0
    for file in weights:
        try:
            with safe_open(str(file), framework="np") as tensors:
                shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118  # safe_open is no dict
        except SafetensorError as error:
            raise _damaged(file, "safetensors file", error) from None
        count = sum(_product(shape) for shape in shapes)
        parameters += count
        rows.append((file.name, size_in_words(file.stat().st_size), str(len(shapes)), f"{count:,}"))
    facts = (
        ("architecture", str(config.get("model_type"))),
        ("parameters", f"{parameters:,}"),
        ("tokenizer", "here" if (path / "tokenizer_config.json").is_file() else "not here"),
    )
    sections = (
        Section("Weights", ("file", "size", "tensors", "parameters"), tuple(rows)),
        Section("Configuration", text=_yaml(config)),
    )
    return Inspection(path, "checkpoint in the transformers format", facts, sections)


def _folder(path: Path) -> Inspection:
    """List the files below a folder, unfinished ones left out, and add them up by kind."""
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    listed = [(file, _kind_of_file(file), file.stat().st_size) for file in files]
    number = Counter(kind for _, kind, _ in listed)
    totals = {kind: sum(size for _, of, size in listed if of == kind) for kind in number}
    by_kind = tuple((kind, str(n), size_in_words(totals[kind])) for kind, n in number.items())
    rows = tuple(
        (str(file.relative_to(path)), kind, size_in_words(size)) for file, kind, size in listed
    )
    facts = (("files", f"{len(files):,}"), ("size", size_in_words(sum(totals.values()))))
    sections = (
        Section("Kinds", ("kind", "files", "size"), by_kind),
        Section("Files", ("file", "kind", "size"), rows),
    )
    return Inspection(path, "folder", facts, sections)


def _kind_of_file(file: Path) -> str:
    """Return what a file is, from its own metadata where it has some."""
    try:
        if file.suffix == ".parquet":
            return _kind(file, _provenance(file, pl.read_parquet_metadata(file)))
        if file.suffix == ".safetensors":
            with safe_open(str(file), framework="np") as tensors:
                return _kind(file, _provenance(file, tensors.metadata() or {}))
        if file.name == "manifest.json":
            return _kind(file, read_json(file).get("provenance"))
    except (pl.exceptions.PolarsError, SafetensorError, StudyError, AttributeError):
        return "damaged; delete it and rerun"
    return _kind(file, None)


def _kind(path: Path, provenance: Mapping[str, Any] | None) -> str:
    if provenance is None:
        return OTHER_KINDS.get(path.suffix, "other file")
    kind = str(provenance.get("kind"))
    return KINDS.get(kind, kind)


def _provenance(path: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the provenance in a file's metadata as a dict, which any version's can be shown from."""
    if METADATA_KEY not in metadata:
        return None
    try:
        content: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    except json.JSONDecodeError as error:
        raise _damaged(path, "provenance", error) from None
    return content


def _origin(path: Path, provenance: Mapping[str, Any] | None) -> Facts:
    """Return the size, and the facts of the provenance that fit a line each."""
    size = ("size", size_in_words(path.stat().st_size))
    if provenance is None:
        return (size, ("provenance", "no provenance"))
    names = ("study", "model", "checkpoint", "revision", "layer", "seed", "dtype", "device", "code")
    known = tuple(
        (name, str(provenance[name])) for name in names if provenance.get(name) is not None
    )
    libraries = ", ".join(f"{name} {v}" for name, v in provenance.get("libraries", {}).items())
    version = str(provenance.get("schema_version"))
    return (size, *known, ("libraries", libraries), ("schema version", version))


def _provenance_sections(provenance: Mapping[str, Any] | None) -> Iterable[Section]:
    """Return inputs with their digests, the settings used and other facts, of those present."""
    if provenance is None:
        return
    if inputs := provenance.get("inputs"):
        yield Section("Made from", ("input", "SHA-256"), tuple(inputs.items()))
    yield Section("Settings used", text=_yaml(provenance.get("settings", {})))
    if facts := provenance.get("facts"):
        yield Section("Facts", text=_yaml(facts))


def _yaml(content: Any) -> str:
    if not content:
        return "none"
    return yaml.safe_dump(
        content, allow_unicode=True, sort_keys=False, default_flow_style=None, width=100
    ).rstrip()


def _cell(value: Any) -> str:
    """Return a value as text, cut only where it is very long, and then with its true length."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        shown = ", ".join(_cell(item) for item in value[:LONGEST_LIST])
        more = len(value) - LONGEST_LIST
        return f"[{shown}, … {more} more]" if more > 0 else f"[{shown}]"
    text = str(value).replace("\n", "⏎")
    if len(text) > LONGEST_TEXT:
        return f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"
    return text


def _product(shape: Iterable[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _damaged(path: Path, what: str, error: Exception) -> StudyError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return StudyError(f"{path}: damaged {what} ({reason}); delete it and rerun the workflow")
