"""The code itself: what could open a pickle, run somebody's code or make one word per command."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glossogenesis.exceptions import StudyError
from support.tiny_study import tiny_study

REPOSITORY = Path(__file__).parents[3]


FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "jsonpickle",
    "imp",
    "runpy",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    ("torch", "load"),
    ("torch", "save"),
    ("torch", "hub"),
    ("torch", "package"),
    ("jit", "load"),
    ("np", "load"),
    ("numpy", "load"),
    ("pl", "deserialize"),
    ("pd", "read_pickle"),
    ("yaml", "load"),
    ("yaml", "load_all"),
    ("yaml", "full_load"),
    ("yaml", "unsafe_load"),
    ("yaml", "Loader"),
    ("yaml", "FullLoader"),
    ("yaml", "UnsafeLoader"),
    ("os", "system"),
    ("os", "popen"),
    ("importlib", "import_module"),
}
ALLOWED = {
    # Names of the package that a notebook asks for, from a fixed list.
    ("__init__.py", "importlib.import_module"),
    # `models.NAME.remote_code` of the study decides; see study/inputs.py.
    ("models/loading.py", "trust_remote_code=has_code"),
    # Modules of the library, named in the pages of the guide.
    ("inspection/guide.py", "importlib.import_module"),
    # A package that is there or not; its checkpoints are read as weights alone.
    ("injection/tasks.py", "importlib.import_module"),
}


def deeds(code: str) -> Iterator[str]:
    """Yield what some Python code does that could run code from a file, or a shell."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
            yield from (f"import {name}" for name in names if name in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] in FORBIDDEN_MODULES:
                yield f"import {node.module}"
            for alias in node.names:
                if (node.module, alias.name) in FORBIDDEN_ATTRIBUTES:
                    yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Attribute):
            owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
            if (owner, node.attr) in FORBIDDEN_ATTRIBUTES:
                yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                yield f"{node.func.id}()"
            yield from _telling_keywords(node)


def _telling_keywords(call: ast.Call) -> Iterator[str]:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    for name in ("allow_pickle", "trust_remote_code", "shell"):
        if name in given and getattr(given[name], "value", None) is not False:
            yield f"{name}={ast.unparse(given[name])}"
    is_loaded = isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"
    if is_loaded and "trust_remote_code" not in given:
        yield "from_pretrained without trust_remote_code"


@pytest.mark.parametrize(
    ("code", "deed"),
    [
        ("import pickle", "import pickle"),
        ("from joblib import load", "import joblib"),
        ("import torch\ntorch.load('x')", "torch.load"),
        ("from torch import load", "torch.load"),
        ("yaml.load(x, yaml.SafeLoader)", "yaml.load"),
        ("eval('1')", "eval()"),
        ("np.load(x, allow_pickle=True)", "allow_pickle=True"),
        ("run(x, shell=True)", "shell=True"),
        ("Auto.from_pretrained(x)", "from_pretrained without trust_remote_code"),
        ("Auto.from_pretrained(x, trust_remote_code=True)", "trust_remote_code=True"),
    ],
)
def test_deeds_are_recognised(code: str, deed: str) -> None:
    assert deed in list(deeds(code))


def test_no_code_opens_a_pickle_or_runs_code_of_a_file() -> None:
    root = REPOSITORY / "workflow_scripts"
    files = sorted(root.rglob("*.py"))
    assert len(files) > 100
    found = {
        (path.relative_to(root).as_posix().removeprefix("glossogenesis/"), deed)
        for path in files
        for deed in deeds(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED


def test_rules_hold_no_such_code() -> None:
    words = r"\b(eval|exec|compile|pickle|torch\.load|yaml\.load|trust_remote_code|os\.system)\b"
    for path in [REPOSITORY / "Snakefile", *sorted((REPOSITORY / "rules").glob("*.smk"))]:
        assert re.findall(words, path.read_text(encoding="utf-8")) == [], path.name


def test_no_code_touches_the_token() -> None:
    """The Hub's client finds the token itself, so that nothing else can pass it on."""
    for path in sorted((REPOSITORY / "workflow_scripts").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = getattr(node, "id", getattr(node, "attr", None))
            assert named not in ("get_token", "HfFolder", "use_auth_token"), path
            assert getattr(node, "value", None) not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"), path
            # Elsewhere tokens are words.
            assert "hub" not in path.name or getattr(node, "arg", None) != "token", path


# No text of a user's becomes part of a command.

NOT_THE_USERS = {"threads", "resources.batch_size", "resources.device", "resources.hub"}
"""What a study decides, but only as a number or as one of a few words."""


def shell_texts() -> Iterator[tuple[str, str]]:
    """Yield the file and the text of every rule's command."""
    for path in sorted((REPOSITORY / "rules").glob("*.smk")):
        code = path.read_text(encoding="utf-8")
        for found in re.finditer(r"^ *shell:\n((?: +f?\"[^\n]*\"\n)+)", code, re.M):
            yield path.name, found[1]
        # Parts of commands that rules put together.
        for found in re.finditer(r"^    (\" --[^\n]*\"\n)", code, re.M):
            yield path.name, found[1]
        assert code.count("shell:") == len(re.findall(r"^ *shell:\n +\"", code, re.M)), path.name


def test_every_text_in_a_command_is_quoted() -> None:
    texts = list(shell_texts())
    assert {"saes.smk", "concepts.smk", "figures.smk"} <= {file for file, _ in texts}
    unquoted = {
        (file, part)
        for file, text in texts
        for part in re.findall(r"\{([^}]*)\}", text)
        if not part.endswith(":q") and part not in NOT_THE_USERS | {"params.script", "FROM_MODEL"}
    }
    assert unquoted == set()


def test_the_path_of_a_script_is_quoted_where_it_is_made() -> None:
    code = (REPOSITORY / "rules" / "stages.smk").read_text(encoding="utf-8")
    (body,) = re.findall(r"^def program\(name\):\n((?:    .*\n)+)", code, re.M)
    assert "quote(" in body


@pytest.mark.parametrize("value", ["cpu; id", "$(id)", 3, None])
def test_a_device_is_one_of_three_words(tmp_path: Path, value: Any) -> None:
    with pytest.raises(StudyError, match=r"models.local.device"):
        tiny_study(tmp_path, lambda s: s["models"]["local"].update(device=value))


@pytest.mark.parametrize("key", ["batch_size", "threads", "gpus"])
def test_numbers_in_a_command_are_numbers(tmp_path: Path, key: str) -> None:
    with pytest.raises(StudyError, match=f"models.local.{key}"):
        tiny_study(tmp_path, lambda s: s["models"]["local"].update({key: "1; id"}))
