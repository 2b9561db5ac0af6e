"""What changes a digest, what must not, and what an artifact says of its origin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glossogenesis.errors import StudyError
from glossogenesis.provenance import (
    METADATA_KEY,
    NOT_COMPUTING,
    SCRIPTS,
    Provenance,
    code_digest,
    file_digest,
    provenance_in,
    settings_digest,
)
from tiny_study import replace

SCRIPT = '''"""Train."""

from glossogenesis.sae.training import train
from glossogenesis.storage import tables
from glossogenesis.config.study import load_study
import numpy

train(tables, load_study, numpy)
'''
TRAINING = '''"""Training."""

from glossogenesis.sae import kernels


def train(*given):
    """Train a thing."""
    # A remark.
    return kernels.twice(len(given)) + 1
'''


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A script over a small library: training imports kernels; storage and config are beside it."""
    files = {
        "train_sae.py": SCRIPT,
        "glossogenesis/__init__.py": '"""A library."""\n\n__version__ = "0.1"\n',
        "glossogenesis/sae/__init__.py": '"""A room."""\n',
        "glossogenesis/sae/training.py": TRAINING,
        "glossogenesis/sae/kernels.py": "def twice(number):\n    return 2 * number\n",
        "glossogenesis/sae/export.py": "LIMIT = 3\n",
        "glossogenesis/storage/__init__.py": "",
        "glossogenesis/storage/tables.py": "from glossogenesis.sae import export\n",
        "glossogenesis/config/__init__.py": "",
        "glossogenesis/config/study.py": "def load_study():\n    return 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("train_sae.py", '"""Train."""', '"""Train one autoencoder."""'),
        ("glossogenesis/sae/training.py", "# A remark.", "# Another remark,\n    # of two lines."),
        ("glossogenesis/sae/training.py", '"""Train a thing."""', '"""Train something."""'),
        ("glossogenesis/sae/training.py", "twice(len(given))", "twice(\n        len(given)\n    )"),
        ("glossogenesis/sae/kernels.py", "2 * number", "2*number"),
        ("glossogenesis/sae/__init__.py", "A room.", "A larger room."),
        ("glossogenesis/__init__.py", "0.1", "0.2"),
        ("glossogenesis/storage/tables.py", "export", "export as writer"),
        ("glossogenesis/config/study.py", "return 1", "return 2"),
        ("glossogenesis/sae/export.py", "LIMIT = 3", "LIMIT = 4"),
    ],
)
def test_edits_that_compute_the_same(scripts: Path, file: str, old: str, new: str) -> None:
    before = code_digest("train_sae", scripts)
    replace(scripts / file, old, new)
    assert code_digest("train_sae", scripts) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("train_sae.py", "train(tables, ", "train("),
        ("glossogenesis/sae/training.py", ") + 1", ") + 2"),
        ("glossogenesis/sae/kernels.py", "2 * number", "number + number"),
        ("glossogenesis/sae/__init__.py", '"""A room."""', "WIDTH = 4"),
    ],
)
def test_edits_that_may_compute_something_else(
    scripts: Path, file: str, old: str, new: str
) -> None:
    before = code_digest("train_sae", scripts)
    replace(scripts / file, old, new)
    assert code_digest("train_sae", scripts) != before


def test_imports_of_rooms_that_do_not_compute_are_not_followed(scripts: Path) -> None:
    """`storage/tables.py` imports `sae/export.py`; only a direct import makes it count."""
    replace(
        scripts / "train_sae.py", "import numpy", "import numpy\nimport glossogenesis.sae.export"
    )
    before = code_digest("train_sae", scripts)
    replace(scripts / "glossogenesis/sae/export.py", "LIMIT = 3", "LIMIT = 4")
    assert code_digest("train_sae", scripts) != before


def test_touched_and_moved_files_keep_the_digest(scripts: Path, tmp_path: Path) -> None:
    before = code_digest("train_sae", scripts)
    for file in scripts.rglob("*.py"):
        os.utime(file, (1, 1))
    assert code_digest("train_sae", scripts) == before


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_every_program_has_a_digest_of_its_own(script: str) -> None:
    others = {code_digest(path.stem) for path in SCRIPTS.glob("*.py") if path.stem != script}
    assert code_digest(script) not in others


def test_rooms_that_do_not_compute_exist() -> None:
    library = SCRIPTS / "glossogenesis"
    for room in NOT_COMPUTING:
        assert (library / room).is_dir() or (library / f"{room}.py").is_file(), room


def test_settings_digest_ignores_the_order_of_keys() -> None:
    assert settings_digest({"a": 1, "b": [2, 3]}) == settings_digest({"b": [2, 3], "a": 1})
    assert settings_digest({"a": 1}) != settings_digest({"a": 2})


def test_file_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(path) == expected == file_digest(str(path))


def test_provenance_survives_metadata() -> None:
    origin = Provenance("states", "demo", {"dtype": "float32"}, {"prompts": "12"}, "ab", layer=3)
    assert provenance_in(origin.to_metadata(), "a file") == origin
    assert "torch" in origin.libraries


def test_files_of_others_are_named() -> None:
    with pytest.raises(StudyError, match=r"^x.parquet: carries no provenance; .*not written by"):
        provenance_in({}, "x.parquet")
    with pytest.raises(
        StudyError, match=r"^x.parquet: its provenance is of another version; .*rerun"
    ):
        provenance_in({METADATA_KEY: '{"of": "the future"}'}, "x.parquet")
