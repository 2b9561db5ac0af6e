"""Which commits the study's branches and tags stood for when they were first fetched.

`results/revisions/{model}/{checkpoint}.json` and `results/revisions/{corpus}.json` are no outputs
of rules: they survive reruns, so that a checkpoint and the text of a corpus stay the same when a
branch of their repository moves.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from glossogenesis.errors import StudyError
from glossogenesis.storage.files import read_json, write_json
from glossogenesis.storage.hub_files import HubSnapshot, Kind
from glossogenesis.storage.records import record_of

SHOWN_DIGITS = 12
"""Of a commit, in messages."""


@dataclass(frozen=True)
class KeptRevision:
    """A branch, tag or commit, and what it stood for when it was first fetched."""

    source: str
    revision: str | None
    """As the study has it; the default branch where None."""
    commit: str
    moved_to: str | None = None
    """The commit that it stands for now, where that is another."""

    def __str__(self) -> str:
        at = f"{self.source}@{self.revision or 'main'}"
        return (
            f"{at} has moved from {self.commit[:SHOWN_DIGITS]} to "
            f"{str(self.moved_to)[:SHOWN_DIGITS]}; the study keeps {self.commit}. To take the new "
            "commit, write it as `revision`"
        )


@dataclass(frozen=True)
class _Record:
    revisions: tuple[KeptRevision, ...]


def revision_file(results: Path, *names: str) -> Path:
    """Return where the revisions of a checkpoint (of a model) or of a corpus are kept."""
    *folders, name = names
    return results.joinpath("revisions", *folders, f"{name}.json")


def resolved(repository: str, revision: str | None, kind: Kind, record: Path | None) -> HubSnapshot:
    """Ask the Hub for a revision's commit and files, or for those of the commit that is kept of it.

    That a branch has moved is kept and said. StudyError as in `HubSnapshot.find`, or where `record`
    is damaged.
    """
    kept = kept_revision(record, repository, revision)
    now = HubSnapshot.find(repository, revision, kind)
    if kept is None or kept.commit == now.commit:
        keep_revision(record, KeptRevision(repository, revision, now.commit))
        return now
    kept = replace(kept, moved_to=now.commit)
    keep_revision(record, kept)
    print(f"Warning: {kept}", file=sys.stderr, flush=True)
    return HubSnapshot.find(repository, kept.commit, kind)


def kept_revision(file: Path | None, source: str, revision: str | None) -> KeptRevision | None:
    """Return what is kept of a revision, None where nothing is; StudyError where it is damaged."""
    for kept in _read(file):
        if (kept.source, kept.revision) == (source, revision):
            return kept
    return None


def keep_revision(file: Path | None, kept: KeptRevision) -> None:
    """Keep a revision, in place of what was kept of it."""
    if file is None:
        return
    others = [
        other
        for other in _read(file)
        if (other.source, other.revision) != (kept.source, kept.revision)
    ]
    write_json(file, asdict(_Record((*others, kept))))


def forget_others(file: Path | None, asked: Collection[tuple[str, str | None]]) -> None:
    """Forget revisions that the study no longer has; `asked` are sources with theirs."""
    kept = _read(file)
    wanted = [one for one in kept if (one.source, one.revision) in asked]
    if file is not None and wanted != kept:
        write_json(file, asdict(_Record(tuple(wanted))))


def moved(results: Path, recorded: Iterable[tuple[str, ...]]) -> list[str]:
    """Return a line on every branch that had moved when its files were last fetched.

    `recorded` are the study's checkpoints and corpora, as in `revision_file`. A record that cannot
    be read is a line as well: this is said at the end of a run, and must not make it fail.
    """
    lines = []
    for names in recorded:
        try:
            kept = _read(revision_file(results, *names))
        except StudyError as error:
            lines.append(str(error))
            continue
        lines += [f"{' '.join(names)}: {one}" for one in kept if one.moved_to]
    return lines


def _read(file: Path | None) -> list[KeptRevision]:
    if file is None or not file.is_file():
        return []
    content = read_json(file)
    try:
        return list(record_of(_Record, content).revisions)
    except ValueError as error:
        raise StudyError(
            f"{file}: no record of revisions ({error}); restore it, or delete it to take what the "
            "branches stand for now"
        ) from None
