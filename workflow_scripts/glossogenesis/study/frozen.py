"""A study as it was when a run started: jobs read this copy, so that edits cannot mislabel them.

The copy is a folder `runs/{study}-{digest}/` among the results: `study.yaml`, the configuration
after all `--configfile` and `--config` were merged, and `checkpoints.tsv`, the sheet. Its name is a
digest of both, so that a changed study is another run and the same study the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from glossogenesis.storage.files import write_text
from glossogenesis.study.sheet import COLUMNS, Checkpoint

FROZEN_FROM = "frozen_from"
"""Key of a frozen study that names the file it is a copy of, from which its paths count."""

STUDY_FILE = "study.yaml"
SHEET_FILE = "checkpoints.tsv"

_REMARK = """\
# The study as it was when a run started, which its jobs read; written by the workflow.
# To change the study, edit the file that `frozen_from` names.
"""


@dataclass(frozen=True)
class FrozenStudy:
    """The copy of a study that the jobs of one run read."""

    folder: Path
    study: str
    """The text of `study.yaml`."""
    sheet: str
    """The text of `checkpoints.tsv`."""

    @property
    def file(self) -> Path:
        """The configuration that jobs are started with."""
        return self.folder / STUDY_FILE

    def write(self) -> None:
        """Write the copy; one that is there already is the same."""
        if not self.file.exists():
            write_text(self.folder / SHEET_FILE, self.sheet)
            write_text(self.file, self.study)


def freeze(
    config: Mapping[str, Any], name: str, file: Path, sheet: tuple[Checkpoint, ...], results: Path
) -> FrozenStudy:
    """Return the copy of a study for a folder of results, not yet written.

    `config` is the merged configuration, `name` the study's, `file` where its paths count from, and
    `sheet` its rows.
    """
    content = {FROZEN_FROM: str(file), **_plain(config)}
    study = _REMARK + yaml.dump(
        content, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True
    )
    rows = ["\t".join(COLUMNS), *(_line(row) for row in sheet)]
    table = "\n".join(rows) + "\n"
    digest = hashlib.sha256(f"{study}\0{table}".encode()).hexdigest()[:12]
    return FrozenStudy(results / "runs" / f"{name}-{digest}", study, table)


def _plain(value: Any) -> Any:
    """Return a configuration as plain mappings and lists, which YAML writes without tags."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _line(row: Checkpoint) -> str:
    values = (getattr(row, column) for column in COLUMNS)
    return "\t".join("" if value is None else str(value) for value in values)
