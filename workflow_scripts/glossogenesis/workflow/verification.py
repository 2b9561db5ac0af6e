"""Compare every artifact of a folder of results with the digests that were recorded of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import read_json
from glossogenesis.storage.provenance import (
    METADATA_KEY,
    NUMBERS_DIGEST,
    SealState,
    file_digest,
    seal_state,
)
from glossogenesis.workflow.registry import STAGES, written_by

_ENDS = {
    ".json": b"}",
    ".parquet": b"PAR1",
    ".pdf": b"%%EOF",
    ".safetensors": b"",
    ".svg": b"</svg>",
}
"""How files that may carry a seal end; one that was cut may have lost its seal with its end."""

LEFT_OUT = ("downloads", "resume", "runs")
"""Folders of results that hold no artifacts: other programs' files, and states of unfinished jobs,
which are checked when they are read."""

_JOURNAL = "unfinished.json"
"""Of activations that are being written: a state as well. It is not imported from its writer, which
would load torch."""

_REVISIONS = "revisions"
"""Of results: commits that branches stood for. No rule makes them: fetching a checkpoint does, and
preparing a corpus."""

_SAE_WEIGHTS = "sae_weights.safetensors"
_NUMBERS = re.compile(rb'%s\\?": \\?"([0-9a-f]{64})' % NUMBERS_DIGEST.encode())

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Damage:
    """An artifact that is not what was written."""

    path: Path
    reason: str
    target: Path
    """What to delete with it, and to ask the workflow for, so that it is made again."""


@dataclass(frozen=True)
class Verification:
    """What was found in a folder of results."""

    checked: int
    """Files whose bytes were compared with a digest."""
    damages: tuple[Damage, ...]
    unknown: tuple[Path, ...]
    """Files that nothing vouches for: of an earlier version, or not the workflow's."""


@dataclass(frozen=True)
class _Record:
    """What one file records of another."""

    path: Path
    sha256: str
    recorded_in: Path
    may_be_absent: bool = False


def verify(results: Path) -> Verification:
    """Check all artifacts in a folder of results; StudyError where there is no such folder."""
    if not results.is_dir():
        raise StudyError(f"{results}: no such folder of results; give the one of the study")
    files = sorted(_artifacts(results))
    whole: set[Path] = set()
    unknown: set[Path] = set()
    damages: list[Damage] = []
    for path in files:
        state = _state(path)
        if state is SealState.DAMAGED:
            damages.extend(_damaged(path, results))
        (whole if state is SealState.WHOLE else unknown).add(path)
    vouched: set[Path] = set()
    for path in sorted(whole):
        for record in _records_in(path):
            vouched.add(record.path)
            damages.extend(_compare(record))
        if path.suffix == ".parquet" and (copy := path.with_suffix(".csv")) in unknown:
            vouched.add(copy)
            damages.extend(_compare_copy(path, copy))
    # What a damaged file vouches for is unknown until that file is made again.
    unknown -= vouched | {damage.path for damage in damages}
    checked = sum(path.is_file() for path in whole | vouched)
    return Verification(checked, tuple(damages), tuple(sorted(unknown)))


def _artifacts(results: Path) -> Iterator[Path]:
    for path in results.rglob("*"):
        parts = path.relative_to(results).parts
        if parts[0] not in LEFT_OUT and not any(part.startswith(".") for part in parts):
            is_journal = path.name == _JOURNAL and parts[0] != _REVISIONS
            is_artifact = path.suffix in (*_ENDS, ".csv") and not is_journal
            if is_artifact and path.is_file() and len(parts) > 1:
                yield path


def _state(path: Path) -> SealState:
    if path.suffix not in _ENDS:
        return SealState.NONE
    try:
        state = seal_state(path)
        is_whole = state is not SealState.NONE or _ends_as(path, _ENDS[path.suffix])
        return state if is_whole else SealState.DAMAGED
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); fix the disk") from None


def _ends_as(path: Path, end: bytes) -> bool:
    """Return whether a file has content that ends so, but for a line's end."""
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - len(end) - 1))
        return length > 0 and file.read().rstrip(b"\n").endswith(end)


def _damaged(path: Path, results: Path) -> Iterator[Damage]:
    """Yield the damage of a file whose seal or end says that it is not what was written.

    A record of revisions is damage for each manifest that was made with it.
    """
    reason = SealState.DAMAGED.value
    if path.relative_to(results).parts[0] != _REVISIONS:
        yield Damage(path, reason, _listed(path, results))
        return
    what = "deleting it takes the commit that the branch has now"
    for manifest in _made_with_revisions(path.relative_to(results / _REVISIONS), results):
        keep = f"to keep the old one, write the commit in {manifest} as `revision` first"
        yield Damage(path, f"{reason}; {what}; {keep}", manifest)


def _made_with_revisions(record: Path, results: Path) -> list[Path]:
    """Return manifests that a record of revisions belongs to; it is that of a corpus or checkpoint.

    A corpus has one for each tokenizer.
    """
    *models, name = record.with_suffix("").parts
    if models:
        path = STAGES["fetch_checkpoint"].path()
        return [results / path.format(model=models[0], checkpoint=name)]
    return sorted(results.glob(STAGES["prepare_corpus"].path().format(corpus=name, tokenizer="*")))


def _listed(path: Path, results: Path) -> Path:
    """Return the file that a rule lists among its outputs, for one that is sealed beside it."""
    written = str(path.relative_to(results))
    found = written_by(written)
    if found is None:
        return path
    stage, setup = found
    is_output = stage.setup_of(written) is not None
    return path if is_output else results / stage.path().format_map(setup)


def _records_in(path: Path) -> Iterator[_Record]:
    """Yield what a whole artifact records of files beside it."""
    if path.suffix in (".svg", ".pdf"):
        if found := _NUMBERS.search(path.read_bytes()):
            yield _Record(path.with_suffix(".csv"), found[1].decode(), path)
    elif path.suffix == ".json":
        content = read_json(path)
        for read in _READERS:
            yield from read(path, content)


def _weights_of_autoencoder(path: Path, content: Content) -> Iterator[_Record]:
    own = content.get("metadata", {}).get(METADATA_KEY, {})
    if "weights_sha256" in own:
        yield _Record(path.with_name(_SAE_WEIGHTS), own["weights_sha256"], path)


def _shards(path: Path, content: Content) -> Iterator[_Record]:
    """Shards of activations, which may have been purged, and those of a corpus."""
    is_corpus = "vocabulary_file" in content
    for split in content.get("splits", {}).values():
        files = [path.with_name(facts["file"]) for facts in split["shards"]]
        is_purged = not is_corpus and not any(file.exists() for file in files)
        for file, facts in zip(files, split["shards"], strict=True):
            yield _Record(file, facts["sha256"], path, may_be_absent=is_purged)
    if is_corpus:
        facts = content["vocabulary_file"]
        yield _Record(path.with_name(facts["file"]), facts["sha256"], path)


def _saved_steps(path: Path, content: Content) -> Iterator[_Record]:
    for step in content.get("checkpoints", ()):
        for name, facts in step["files"].items():
            yield _Record(path.parent / step["folder"] / name, facts["sha256"], path)


def _files_of_checkpoint(path: Path, content: Content) -> Iterator[_Record]:
    """Files of a checkpoint; those that the workflow pretrained are in its own manifest too."""
    if str(content.get("source", "")).startswith("pretrain:"):
        return
    # Downloads may have been removed: a job that needs them fetches them again by their commit.
    is_download = content.get("commit") is not None
    for kind in ("weights", "files"):
        for name, facts in content.get(kind, {}).items():
            file = Path(content["folder"]) / name
            yield _Record(file, facts["sha256"], path, may_be_absent=is_download)


_READERS: tuple[Callable[[Path, Content], Iterator[_Record]], ...] = (
    _weights_of_autoencoder,
    _shards,
    _saved_steps,
    _files_of_checkpoint,
)


def _compare(record: _Record) -> Iterator[Damage]:
    if not record.path.is_file():
        if not record.may_be_absent:
            yield Damage(record.path, "missing", record.recorded_in)
    elif file_digest(record.path) != record.sha256:
        what = f"not the bytes that {record.recorded_in.name} records"
        yield Damage(record.path, what, record.recorded_in)


def _compare_copy(table: Path, copy: Path) -> Iterator[Damage]:
    """Compare a CSV with the Parquet table that it is a copy of."""
    from glossogenesis.storage.tables import read_table

    if read_table(table).write_csv().encode() != copy.read_bytes():
        yield Damage(copy, f"not a copy of {table.name}", copy)
