"""The environments of --sdm conda hold the versions of the lock file and what the jobs import."""

import ast
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from glossogenesis.workflow.registry import STAGES

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))
# Distributions of modules that are called otherwise; pydantic brings pydantic_core.
NAMES_OF_MODULES = {"yaml": "pyyaml", "pydantic_core": "pydantic", "sklearn": "scikit-learn"}

HEAVY = [
    *("torch", "transformers", "transformers.modeling_utils", "transformers.trainer", "accelerate"),
    *("tokenizers", "huggingface_hub", "datasets", "sacrebleu", "polars", "pyarrow", "pandas"),
    *("scipy.stats", "statsmodels", "sklearn", "matplotlib", "seaborn"),
]
"""Modules that take a tenth of a second or more; Python and this library take two tenths."""

OF_MODELS = "polars torch transformers.modeling_utils"
HEAVY_IMPORTS = {
    "ablate_circuit": OF_MODELS,
    "classify_posts": "polars torch",
    "collect_features": "polars pyarrow torch",
    "collect_label_features": "polars torch",
    "compare_seeds": "polars torch",
    "extract_activations": "torch",
    "extract_embeddings": "torch",
    "extract_post_activations": "polars torch",
    "extract_states": "polars torch",
    "fetch_checkpoint": "",
    "finetune_classifier": "polars torch transformers.trainer",
    "inject_features": "polars sacrebleu torch transformers.cache_utils",
    "knock_out_features": OF_MODELS,
    "match_features": "polars torch",
    "measure_quality": "torch",
    "measure_recovery": "polars torch",
    "measure_variants": "polars torch",
    "patch_components": OF_MODELS,
    "patch_translations": OF_MODELS,
    "plot_figures": "polars seaborn",
    "prepare_corpus": "polars torch",
    "prepare_posts": "polars",
    "pretrain_model": f"{OF_MODELS} tokenizers",
    "remove_download": "",
    "select_pairs": "polars torch",
    "stream_saes": "polars torch",
    "tabulate_concepts": "polars",
    "tabulate_features": "polars scipy.stats",
    "tabulate_injection": "polars",
    "tabulate_robustness": "polars scipy.stats",
    "tabulate_tracking": "polars",
    "tokenise_posts": "polars torch",
    "train_baseline": "polars sklearn",
    "train_saes": "polars torch",
    "write_prompts": "polars",
}
"""Heavy modules that each program imports before it does anything, with what these import."""


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked_versions() -> dict[str, str]:
    lines = (REPOSITORY / "envs" / "requirements.lock").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {normalised(name): version for name, version in pairs}


def environment_versions(path: Path) -> dict[str, str]:
    packages = yaml.safe_load(path.read_text())["dependencies"][-1]["pip"]
    return {normalised(name): version for name, version in (p.split("==") for p in packages)}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_versions_are_those_of_the_lock_file(path: Path):
    locked = locked_versions()
    for name, version in environment_versions(path).items():
        assert version == locked[name], f"{path.name}: write {name}=={locked[name]}"


def test_torch_is_the_version_that_the_project_pins():
    assert locked_versions()["torch"] == "2.13.0"


def conda_environment_of_programs() -> dict[str, str]:
    """Programs by name and the environment that their rule names."""
    rules = "\n".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    # The stage's other program, in mode `stream`.
    found = {"stream_saes": "models"}
    for words in re.finditer(r'"\.\./envs/(\w+)\.yaml"|params_of\(f?"(\w+)', rules):
        if words[1]:
            environment = words[1]
        else:
            stage = STAGES.get(words[2], STAGES["plot_concepts"])
            program = stage.program if isinstance(stage.program, str) else stage.name
            found[program] = environment
    return found


MODULES_OF_PROGRAMS = """\
import importlib, json, os, runpy, sys

heavy, groups = json.loads(sys.argv[1])

def in_a_fork(work, *arguments):
    child = os.fork()
    if child == 0:
        work(*arguments)
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, arguments

def import_group(allowed, programs):
    for name in allowed:
        importlib.import_module(name)
    already = set(sys.modules)
    for program in programs:
        in_a_fork(import_program, program, already)

def import_program(program, already):
    runpy.run_path(f"workflow_scripts/{program}.py", run_name="imported")
    modules = [sys.modules[name] for name in sys.modules if name.startswith("glossogenesis")]
    files = [module.__file__ for module in modules]
    print(json.dumps([program, files, sorted((sys.modules.keys() - already) & set(heavy))]))

for allowed, programs in groups:
    in_a_fork(import_group, allowed, programs)
"""
"""Imports every program in a process of its own; what programs may import is imported once."""


@dataclass(frozen=True)
class Imports:
    """What a program imports before it does anything."""

    library: list[str]
    """Files of this library."""
    unexpected: list[str]
    """Heavy modules that are not expected of the program."""


@pytest.fixture(scope="module")
def imports_of_programs() -> dict[str, Imports]:
    groups: dict[str, list[str]] = {}
    for program, modules in HEAVY_IMPORTS.items():
        groups.setdefault(modules, []).append(program)
    given = [HEAVY, [(modules.split(), programs) for modules, programs in groups.items()]]
    done = subprocess.run(
        [sys.executable, "-c", MODULES_OF_PROGRAMS, json.dumps(given)],
        cwd=REPOSITORY,
        env={"PYTHONPATH": "workflow_scripts", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = map(json.loads, done.stdout.splitlines())
    return {program: Imports(library, unexpected) for program, library, unexpected in rows}


def test_every_program_is_run_by_a_rule():
    scripts = {path.stem for path in (REPOSITORY / "workflow_scripts").glob("*.py")}
    assert set(conda_environment_of_programs()) == scripts == set(HEAVY_IMPORTS)


@pytest.mark.parametrize("program", HEAVY_IMPORTS)
def test_programs_import_nothing_heavy_that_they_do_not_use(
    imports_of_programs: dict[str, Imports], program: str
):
    assert imports_of_programs[program].unexpected == []


@pytest.mark.parametrize(("program", "environment"), conda_environment_of_programs().items())
def test_environment_has_what_the_program_imports(
    imports_of_programs: dict[str, Imports], program: str, environment: str
):
    modules = imports_of_programs[program].library
    assert modules
    files = [REPOSITORY / "workflow_scripts" / f"{program}.py", *map(Path, modules)]
    imported = {name for file in files for name in imported_packages(file)}
    held = set(environment_versions(REPOSITORY / "envs" / f"{environment}.yaml"))
    missing = imported - held - {"glossogenesis"} - sys.stdlib_module_names
    assert not missing, f"envs/{environment}.yaml lacks {sorted(missing)}"


def imported_packages(file: Path) -> set[str]:
    """Packages that a module imports when it runs, also within its functions, by distribution."""
    names: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    for node in nodes:
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    packages = {name.partition(".")[0] for name in names}
    return {
        name if name in sys.stdlib_module_names else normalised(NAMES_OF_MODULES.get(name, name))
        for name in packages
    }
