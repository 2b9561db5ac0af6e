"""Which edits of the code change a digest, and which must not."""

from __future__ import annotations

import ast
import os
import shutil
from pathlib import Path

import pytest

import glossogenesis
from glossogenesis.storage.provenance import SCRIPTS
from glossogenesis.workflow import code_digests
from glossogenesis.workflow.code_digests import NOT_COMPUTING, CodeDigests, code_digest
from support.tiny_study import replace

FILES = {
    "train.py": '''
"""Train."""

from glossogenesis.figures.registry import FIGURES
from glossogenesis.sae import training
from glossogenesis.storage import tables

if __name__ == "__main__":
    tables.write_table(training.train(tables.read_table()), FIGURES)
''',
    "glossogenesis/__init__.py": '__version__ = "0.1"\n',
    "glossogenesis/sae/__init__.py": "from glossogenesis.sae.kernels import half\n",
    "glossogenesis/sae/training.py": '''
"""Training."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from glossogenesis.sae import half, kernels, tasks
from glossogenesis.sae.settings import Training
from glossogenesis.sae.starred import *

if TYPE_CHECKING:
    from glossogenesis.sae.typed import Batch

STEPS = 3
METHODS = {"twice": kernels.twice}


@cache
def train(table: Any, rate: float = kernels.RATE) -> Any:
    """Train a thing."""
    # A remark.
    from glossogenesis.sae.lazy import evaluate

    given = Training.model_validate(table)
    return evaluate(given.latents, half(STEPS), METHODS, getattr(tasks, table), math.pi)


def shape(batch: "Batch") -> int:
    return len(batch)


def unrelated() -> int:
    return 1
''',
    "glossogenesis/sae/kernels.py": """
RATE = 0.1


def twice(number):
    return 2 * number


def half(number):
    return _divided(number)


def _divided(number):
    return number / 2


def unused(number):
    return 3 * number
""",
    "glossogenesis/sae/settings.py": '''
from typing import Annotated

from glossogenesis.sae.sections import Section, checked, positive


class Training(Section):
    """Settings."""

    width: Annotated["Width", positive]
    layers: "list[Layer]"

    @checked
    def latents(self):
        return 4 * self.width


class Width(int):
    """A width."""

    LARGEST = 5


class Layer:
    NUMBER = 1
''',
    "glossogenesis/sae/sections.py": """
class Section:
    STRICT = True


def positive(number):
    return number > 0


def checked(method):
    return method
""",
    "glossogenesis/sae/lazy.py": "def evaluate(*given):\n    return sum(given)\n",
    "glossogenesis/sae/tasks.py": "def classify():\n    return 7\n",
    "glossogenesis/sae/starred.py": "LIMIT = 8\n",
    "glossogenesis/sae/typed.py": "class Batch:\n    SIZE = 9\n",
    "glossogenesis/figures/__init__.py": "",
    "glossogenesis/figures/registry.py": """
from glossogenesis.figures import plots
from glossogenesis.figures.style import COLOUR

FIGURES = {}


def _figure(draw):
    FIGURES[draw.__name__] = draw
    return draw


@_figure
def losses():
    return plots.line(COLOUR)
""",
    "glossogenesis/figures/plots.py": "def line(colour):\n    return colour\n",
    "glossogenesis/figures/style.py": 'COLOUR = "red"\n',
    "glossogenesis/storage/__init__.py": "",
    "glossogenesis/storage/tables.py": """
def read_table():
    return _opened("r")


def write_table(*given):
    return given and _flushed(1)


def _flushed(number):
    return number


def _opened(mode):
    return open("table", mode)
""",
}


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script over a small library whose writer is left out."""
    listed = {"__init__": "the version", "storage.tables.write_table": "writes"}
    monkeypatch.setattr(code_digests, "NOT_COMPUTING", listed)
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


TRAINING = "sae/training.py"
KERNELS = "sae/kernels.py"
SETTINGS = "sae/settings.py"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("../train.py", '"""Train."""', '"""Train one autoencoder."""'),
        (TRAINING, "# A remark.", "# Another remark,\n    # of two lines."),
        (TRAINING, '"""Train a thing."""', '"""Train something."""'),
        (TRAINING, "half(STEPS)", "half(\n        STEPS\n    )"),
        (
            TRAINING,
            "import math\nfrom functools import cache",
            "from functools import cache, wraps\nimport math",
        ),
        (KERNELS, "2 * number", "2*number"),
        (KERNELS, "RATE = 0.1", 'RATE = 0.1\n"""Of learning."""'),
        (KERNELS, "3 * number", "4 * number"),
        (KERNELS, "RATE = 0.1", "UNUSED = 5\nRATE = 0.1"),
        ("__init__.py", "0.1", "0.2"),
        ("sae/typed.py", "SIZE = 9", "SIZE = 10"),
        ("storage/tables.py", "given and", "not given or"),
        ("storage/tables.py", "return number", "return 2 * number"),
    ],
)
def test_edits_that_compute_the_same(scripts: Path, file: str, old: str, new: str) -> None:
    before = code_digest("train", scripts)
    replace(scripts / "glossogenesis" / file, old, new)
    assert code_digest("train", scripts) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("../train.py", "train(tables.", "train(*tables.", id="the script"),
        pytest.param(TRAINING, "STEPS = 3", "STEPS = 4", id="constant"),
        pytest.param(TRAINING, "math.pi", "math.e", id="another library's constant"),
        pytest.param(TRAINING, "import math", "import cmath as math", id="another library"),
        pytest.param(TRAINING, "@cache\n", "", id="decorator"),
        pytest.param(TRAINING, '"twice":', '"double":', id="dictionary of functions"),
        pytest.param(KERNELS, "2 * number", "number + number", id="function in a dictionary"),
        pytest.param(KERNELS, "RATE = 0.1", "RATE = 0.2", id="default"),
        pytest.param(KERNELS, "number / 2", "number // 2", id="re-exported by a room"),
        pytest.param("sae/lazy.py", "sum", "max", id="imported in a function"),
        pytest.param("sae/tasks.py", "7", "8", id="module given to getattr"),
        pytest.param("sae/starred.py", "8", "9", id="star import"),
        pytest.param(TRAINING, "return 1", "return 2", id="beside a star import"),
        pytest.param(SETTINGS, "4 * self", "8 * self", id="method"),
        pytest.param(SETTINGS, "LARGEST = 5", "LARGEST = 6", id="quoted in an annotation"),
        pytest.param(SETTINGS, "NUMBER = 1", "NUMBER = 2", id="quoted annotation"),
        pytest.param("sae/sections.py", "STRICT = True", "STRICT = False", id="base"),
        pytest.param("sae/sections.py", "> 0", ">= 0", id="in an annotation"),
        pytest.param("sae/sections.py", "return method", "return 1", id="decorator of a method"),
        pytest.param("figures/plots.py", "return colour", "return 1", id="registered function"),
        pytest.param("figures/style.py", "red", "blue", id="constant of a registered function"),
        pytest.param("storage/tables.py", '"r"', '"rb"', id="reader"),
        pytest.param("storage/tables.py", '"table"', '"tables"', id="used by a reader"),
    ],
)
def test_edits_that_may_compute_something_else(
    scripts: Path, file: str, old: str, new: str
) -> None:
    before = code_digest("train", scripts)
    replace(scripts / "glossogenesis" / file, old, new)
    assert code_digest("train", scripts) != before


def test_moved_definitions_keep_the_digest(scripts: Path) -> None:
    before = code_digest("train", scripts)
    room = scripts / "glossogenesis" / "sae"
    moved = "def _divided(number):\n    return number / 2\n"
    replace(room / "kernels.py", moved, "")
    replace(room / "kernels.py", "RATE", "from glossogenesis.numbers import _divided\n\nRATE")
    (room.parent / "numbers.py").write_text(moved, encoding="utf-8")
    replace(room / "lazy.py", "def evaluate", "OTHER = 1\n\n\ndef evaluate")
    (room / "lazy.py").rename(room.parent / "figures" / "evaluation.py")
    replace(room / "training.py", "sae.lazy", "figures.evaluation")
    (room / "tasks.py").rename(room.parent / "tasks.py")
    replace(room / "training.py", "half, kernels, tasks", "half, kernels")
    replace(room / "training.py", "import math", "import math\nfrom glossogenesis import tasks")
    assert code_digest("train", scripts) == before


def test_a_name_that_comes_to_stand_for_another_definition_changes_the_digest(
    scripts: Path,
) -> None:
    """Both are reached before and after, and no definition's own text changes."""
    script = scripts / "train.py"
    text = "from glossogenesis.one import f\nfrom glossogenesis.other import f as g\n\nf() - g()\n"
    for module, value in (("one", 1), ("other", 2)):
        file = scripts / "glossogenesis" / f"{module}.py"
        file.write_text(f"LIMIT = {value}\n\n\ndef f():\n    return LIMIT\n", encoding="utf-8")
    script.write_text(text, encoding="utf-8")
    before = code_digest("train", scripts)
    script.write_text(text.replace("one", "x").replace("other", "one").replace("x", "other"))
    assert code_digest("train", scripts) != before


def test_a_module_that_acts_when_loaded_counts_where_nothing_of_it_is_named(scripts: Path) -> None:
    replace(
        scripts / "glossogenesis/figures/style.py",
        "COLOUR",
        "import glossogenesis.sae.hooks\nCOLOUR",
    )
    hooks = scripts / "glossogenesis/sae/hooks.py"
    hooks.write_text("from glossogenesis.sae import kernels\n\nkernels.RATE = 1\n")
    before = code_digest("train", scripts)
    replace(hooks, "RATE = 1", "RATE = 2")
    assert code_digest("train", scripts) != before


def test_touched_and_moved_folders_keep_the_digest(scripts: Path, tmp_path: Path) -> None:
    before = code_digest("train", scripts)
    for file in scripts.rglob("*.py"):
        os.utime(file, (1, 1))
    assert code_digest("train", Path(shutil.copytree(scripts, tmp_path / "copy"))) == before


DIGESTS = CodeDigests()
PROGRAMS = sorted(path.stem for path in SCRIPTS.glob("*.py"))


def test_every_program_has_a_digest_of_its_own() -> None:
    assert len({DIGESTS.of(script) for script in PROGRAMS}) == len(PROGRAMS)


def test_what_is_left_out_exists_and_would_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {f"glossogenesis.{name}".removesuffix(".__init__") for name in NOT_COMPUTING}
    monkeypatch.setattr(code_digests, "NOT_COMPUTING", {})
    everything = CodeDigests()
    reached = {
        definition for script in PROGRAMS for definition in everything.definitions_of(script)
    }
    names = {name for module, name in reached for name in (module, f"{module}.{name}")}
    assert listed - names == set()


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        (
            "round((self.expansion or 0) * d_model)",
            "round((self.expansion or 0) * 2 * d_model)",
            {"train_saes", "stream_saes"},
        ),
        (
            "return self.batch * self.context",
            "return 2 * self.batch * self.context",
            {"pretrain_model"},
        ),
    ],
    ids=["latents_of", "tokens_per_step"],
)
def test_a_doubled_setting_changes_the_programs_that_train_with_it(
    old: str, new: str, changed: set[str], tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(SCRIPTS, tmp_path / "scripts"))
    (file,) = (file for file in copied.rglob("*.py") if old in file.read_text(encoding="utf-8"))
    replace(file, old, new)
    edited = CodeDigests(copied)
    assert {script for script in PROGRAMS if edited.of(script) != DIGESTS.of(script)} == changed


def test_no_code_imports_what_is_for_notebooks() -> None:
    """Those names are looked up when they are used; the module that does is left out of digests."""
    for file in SCRIPTS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "glossogenesis":
                assert not {each.name for each in node.names} & {*glossogenesis.__all__}, file
