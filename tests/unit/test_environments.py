"""The environments of --sdm conda hold the versions of the lock file and what the jobs import."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))
# Distributions of modules that are called otherwise; pydantic brings pydantic_core.
NAMES_OF_MODULES = {"yaml": "pyyaml", "pydantic_core": "pydantic", "sklearn": "scikit-learn"}


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
    found: dict[str, str] = {}
    for words in re.finditer(r'"\.\./envs/(\w+)\.yaml"|program\("(\w+)"\)', rules):
        if words[1]:
            environment = words[1]
        else:
            found[words[2]] = environment
    return found


# Other packages stay in memory from program to program, which takes a tenth of the time.
MODULES_OF_PROGRAMS = """\
import json, runpy, sys

found = {}
for program in sys.argv[1:]:
    for name in [name for name in sys.modules if name.split(".")[0] == "glossogenesis"]:
        del sys.modules[name]
    runpy.run_path(f"workflow_scripts/{program}.py", run_name="imported")
    modules = [sys.modules[name] for name in sys.modules if name.startswith("glossogenesis")]
    found[program] = [module.__file__ for module in modules]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def modules_of_programs() -> dict[str, list[str]]:
    """Files of the library that each program imports."""
    done = subprocess.run(
        [sys.executable, "-c", MODULES_OF_PROGRAMS, *conda_environment_of_programs()],
        cwd=REPOSITORY,
        env={"PYTHONPATH": "workflow_scripts", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("program", "environment"), conda_environment_of_programs().items())
def test_environment_has_what_the_program_imports(
    modules_of_programs: dict[str, list[str]], program: str, environment: str
):
    modules = modules_of_programs[program]
    assert modules
    files = [REPOSITORY / "workflow_scripts" / f"{program}.py", *map(Path, modules)]
    imported = {name for file in files for name in imported_packages(file)}
    held = set(environment_versions(REPOSITORY / "envs" / f"{environment}.yaml"))
    missing = imported - held - {"glossogenesis"} - sys.stdlib_module_names
    assert not missing, f"envs/{environment}.yaml lacks {sorted(missing)}"


def imported_packages(file: Path) -> set[str]:
    """Packages that a module imports anywhere, also within its functions, by distribution."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    packages = {name.partition(".")[0] for name in names}
    return {
        name if name in sys.stdlib_module_names else normalised(NAMES_OF_MODULES.get(name, name))
        for name in packages
    }
