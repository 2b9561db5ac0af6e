"""Which edits of the code change a digest, and which must not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from glossogenesis.code_digests import NOT_COMPUTING, CodeDigests, code_digest
from glossogenesis.provenance import SCRIPTS
from tiny_study import replace

SCRIPT = '''"""Train."""

from glossogenesis.sae.training import train
from glossogenesis.storage import tables
from glossogenesis.config.study import load_study
import numpy

train(tables, load_study, numpy)
'''
TRAINING = '''"""Training."""

from glossogenesis.config import sae
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
        "glossogenesis/config/sae.py": "def latents_of(width):\n    return 4 * width\n",
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
        ("glossogenesis/config/sae.py", "4 * width", "8 * width"),
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


DIGESTS = CodeDigests()


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_every_program_has_a_digest_of_its_own(script: str) -> None:
    others = {DIGESTS.of(path.stem) for path in SCRIPTS.glob("*.py") if path.stem != script}
    assert DIGESTS.of(script) not in others


def test_rooms_that_do_not_compute_exist() -> None:
    library = SCRIPTS / "glossogenesis"
    for room in (name.replace(".", "/") for name in NOT_COMPUTING):
        assert (library / room).is_dir() or (library / f"{room}.py").is_file(), room


@pytest.mark.parametrize("script", ["train_saes", "stream_saes"])
def test_the_size_of_a_dictionary_is_in_the_digest_of_its_training(
    script: str, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(SCRIPTS, tmp_path / "scripts"))
    assert code_digest(script, copied) == DIGESTS.of(script)
    replace(
        copied / "glossogenesis" / "config" / "sae.py",
        "round((self.expansion or 0) * d_model)",
        "round((self.expansion or 0) * 2 * d_model)",
    )
    assert code_digest(script, copied) != DIGESTS.of(script)
