"""What the literal command `snakemake --profile slurm` asks a cluster for.

`sbatch` is a stub that writes down its arguments and fails, so that nothing runs and every job is
retried.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from glossogenesis.study.loading import load_study
from glossogenesis.study.study import Study
from glossogenesis.workflow import costs
from glossogenesis.workflow.registry import STAGES
from support.working_tree import REPOSITORY, WorkingTree, copy_of_repository

STUDY = """\
study: name-of-the-study
checkpoints: sheet.tsv
lexicon: {path: resources/demo/lexicon.tsv, limit: 40}
languages:
  en: {endonym: English, script: Latin, group: pivot, seen: true}
  es: {endonym: Español, script: Latin, group: seen, seen: true}
  ru: {endonym: Русский, script: Cyrillic, group: seen, seen: true}
  fi: {endonym: Suomi, script: Latin, group: seen, seen: true}
models:
  fresh: {parameters: 7.0e+9, dtype: bfloat16, gpus: 1, device: cuda}
  fetched: {parameters: 7.0e+9, dtype: bfloat16, gpus: 1, device: cuda}
  prompted: {parameters: 7.0e+9, dtype: bfloat16, gpus: 1, device: cuda, threads: 6}
  extracted: {parameters: 7.0e+9, dtype: bfloat16, gpus: 2, device: cuda, batch_size: 77}
  on_cpu: {parameters: 1.0e+8, gpus: 0, threads: 3, device: cpu}
concepts:
  items: 6
  few_shot: 2
  target_pairs: [[es, en]]
"""
HEADER = "model\tcheckpoint\tstep\tsource\n"
FINISHED = {
    "fresh": [],
    "fetched": ["checkpoints/fetched/main/manifest.json"],
    "prompted": ["checkpoints/prompted/main/manifest.json", "prompts/prompted/translation.parquet"],
    "extracted": [
        "checkpoints/extracted/main/manifest.json",
        "prompts/extracted/translation.parquet",
        "concepts/extracted/main/states.safetensors",
    ],
    "on_cpu": ["checkpoints/on_cpu/main/manifest.json", "prompts/on_cpu/translation.parquet"],
}
"""Files that are there already, so that one run asks for jobs of every stage."""

ATTEMPTS = 3
"""One, and the retries of slurm/profile.yaml."""

WITHOUT_WAITING = "--slurm-init-seconds-before-status-checks 1"
"""By itself the plugin looks after 40 seconds at what became of its jobs."""

RECORDING_SBATCH = f"""\
#!{sys.executable}
import json, os, sys
with open(os.environ["SBATCH_CALLS"], "a", encoding="utf-8") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
sys.exit("this stub submits nothing")
"""


@dataclass(frozen=True)
class Submission:
    """One call of sbatch."""

    arguments: list[str]

    def value(self, name: str) -> str | None:
        """The value of an option in its form `--name=value`, `--name value` or `-n value`."""
        for place, argument in enumerate(self.arguments):
            if argument.startswith(f"{name}="):
                return argument.partition("=")[2]
            if argument == name:
                return self.arguments[place + 1]
        return None

    @property
    def job(self) -> str:
        """Rule and wildcards, such as `extract_states prompted_main`."""
        comment = self.value("--comment") or ""
        return comment.removeprefix("rule_").replace("_wildcards_", " ")

    @property
    def options(self) -> list[str]:
        """Everything but the command that the job would run."""
        return [argument for argument in self.arguments if not argument.startswith("--wrap")]

    @property
    def memory_mb(self) -> int:
        """The memory asked for."""
        return int(self.value("--mem") or 0)

    @property
    def minutes(self) -> int:
        """The time asked for."""
        return int(self.value("-t") or 0)


def write_program(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> WorkingTree:
    """A copy of the repository whose `config.yaml` is a study of local checkpoints."""
    tree = copy_of_repository(tmp_path_factory.mktemp("slurm") / "tree")
    rows = [f"{model}\tmain\t0\t./weights\n" for model in FINISHED]
    (tree.root / "config.yaml").write_text(STUDY, encoding="utf-8")
    (tree.root / "sheet.tsv").write_text(HEADER + "".join(rows), encoding="utf-8")
    weights = tree.root / "weights"
    weights.mkdir()
    save_file({"weight": torch.ones(1)}, weights / "model.safetensors")
    (weights / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 2}', "utf-8")
    for file in (file for files in FINISHED.values() for file in files):
        path = tree.root / "results" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a stand-in that no job will read", encoding="utf-8")
    return tree


@pytest.fixture(scope="module")
def study(tree: WorkingTree) -> Study:
    return load_study(tree.root / "config.yaml")


@pytest.fixture(scope="module")
def submissions(tree: WorkingTree) -> list[Submission]:
    """All calls of sbatch that the literal command makes."""
    return submit(tree, tree.root.parent, f"snakemake --profile slurm {WITHOUT_WAITING}")


def submit(tree: WorkingTree, scratch: Path, command: str) -> list[Submission]:
    """Run a command with stubs in place of Slurm's programs; return its calls of sbatch."""
    programs = scratch / "programs"
    programs.mkdir(exist_ok=True)
    write_program(programs / "sbatch", RECORDING_SBATCH)
    for name in ("squeue", "sacct", "sacctmgr", "sshare", "scontrol", "scancel"):
        write_program(programs / name, "#!/bin/sh\nexit 0\n")
    write_program(programs / "sinfo", "#!/bin/sh\necho 'site_default*'\n")
    calls = scratch / "calls.jsonl"
    calls.unlink(missing_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAKE")},
        "PATH": os.pathsep.join(
            [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
        "PYTHONPATH": str(tree.root / "workflow_scripts"),
        "SBATCH_CALLS": str(calls),
        # A profile of the user's own must not answer for the repository's.
        "XDG_CONFIG_HOME": str(scratch / "no-config"),
    }
    done = subprocess.run(
        shlex.split(command),
        cwd=tree.root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert calls.exists(), done.stdout + done.stderr
    return [Submission(json.loads(line)) for line in calls.read_text("utf-8").splitlines()]


def of_job(submissions: list[Submission], job: str) -> list[Submission]:
    """The attempts of one job, in order."""
    attempts = [submission for submission in submissions if submission.job == job]
    assert len(attempts) == ATTEMPTS, sorted({submission.job for submission in submissions})
    return attempts


def test_every_stage_is_submitted(submissions: list[Submission]):
    assert {submission.job for submission in submissions} == {
        "fetch_checkpoint fresh_main",
        "write_prompts fetched",
        "extract_states prompted_main",
        "extract_states on_cpu_main",
        "patch_translations extracted_main",
    }


@pytest.mark.parametrize(
    ("job", "gpus"),
    [
        ("extract_states prompted_main", "1"),
        ("patch_translations extracted_main", "2"),
        ("extract_states on_cpu_main", None),
        ("fetch_checkpoint fresh_main", None),
        ("write_prompts fetched", None),
    ],
)
def test_gpus_are_asked_for_where_the_model_has_some(
    submissions: list[Submission], job: str, gpus: str | None
):
    for submission in of_job(submissions, job):
        assert submission.value("--gpus") == gpus
        assert submission.value("--gres") is None


@pytest.mark.parametrize(
    ("job", "stage", "model"),
    [
        ("extract_states prompted_main", "states", "prompted"),
        ("patch_translations extracted_main", "patching", "extracted"),
        ("fetch_checkpoint fresh_main", "checkpoint", "fresh"),
    ],
)
def test_memory_and_time_come_from_the_costs_and_grow(
    submissions: list[Submission], study: Study, job: str, stage: str, model: str
):
    cost = getattr(costs, f"{stage}_cost")(study, model)
    attempts = of_job(submissions, job)
    assert [attempt.memory_mb for attempt in attempts] == [
        cost.requested_memory_mb(number) for number in (1, 2, 3)
    ]
    assert [attempt.minutes for attempt in attempts] == [
        cost.runtime_minutes(number) for number in (1, 2, 3)
    ]
    assert attempts[0].memory_mb < attempts[1].memory_mb < attempts[2].memory_mb


def test_threads_are_the_model_s(submissions: list[Submission]):
    for job, threads in (
        ("extract_states prompted_main", 6),
        ("patch_translations extracted_main", 4),
        ("extract_states on_cpu_main", 3),
    ):
        assert of_job(submissions, job)[0].value("--cpus-per-task") == str(threads)


def test_no_fact_of_a_site_is_asked_for(submissions: list[Submission]):
    for submission in submissions:
        assert submission.value("-A") is None
        assert submission.value("--account") is None
        assert submission.value("--qos") is None
        assert submission.value("--constraint") is None
        # What sinfo calls the default, not something written in the repository.
        assert submission.value("-p") == "site_default"


def test_slurm_may_start_a_preempted_job_again(submissions: list[Submission]):
    assert all("--requeue" in submission.options for submission in submissions)


def test_study_device_and_batch_size_stay_out_of_the_options(submissions: list[Submission]):
    for submission in submissions:
        options = " ".join(submission.options)
        assert "name-of-the-study" not in options
        assert "batch_size" not in options
        assert "77" not in [part for option in submission.options for part in option.split("=")]
        assert "cuda" not in options


def test_a_site_s_own_partitions_are_used(tree: WorkingTree, tmp_path: Path):
    example = tree.root / "slurm" / "partitions.example.yaml"
    submissions = submit(
        tree,
        tmp_path,
        f"env SNAKEMAKE_SLURM_PARTITIONS={example} snakemake --profile slurm {WITHOUT_WAITING}",
    )
    partition_of = {submission.job: submission.value("-p") for submission in submissions}
    assert partition_of["extract_states prompted_main"] == "gpu"
    assert partition_of["extract_states on_cpu_main"] == "cpu"
    assert partition_of["fetch_checkpoint fresh_main"] == "cpu"


def test_a_second_profile_spells_gpus_as_gres(tree: WorkingTree, tmp_path: Path):
    site = tree.root / "mysite"
    site.mkdir()
    (site / "profile.yaml").write_text(
        "set-resources:\n"
        '  extract_states: {gpu: 0, gres: "gpu:1"}\n'
        '  patch_translations: {gpu: 0, gres: "gpu:1"}\n'
        "default-resources: {runtime: 60, mem_mb: 4000, slurm_partition: accelerated}\n",
        encoding="utf-8",
    )
    submissions = submit(
        tree, tmp_path, f"snakemake --profile slurm --profile mysite {WITHOUT_WAITING}"
    )
    states = of_job(submissions, "extract_states prompted_main")[0]
    assert states.value("--gpus") is None
    assert states.value("--gres") == "gpu:1"
    assert states.value("-p") == "accelerated"


RULES_WITH_GPUS = {stage.name for stage in STAGES.values() if stage.gpu}


def test_the_documentation_names_all_rules_that_ask_for_gpus():
    page = (REPOSITORY / "docs" / "cluster.md").read_text(encoding="utf-8")
    named = re.findall(r'^  (\w+): \{gpu: 0, gres: "gpu:1"\}$', page, re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(named) == RULES_WITH_GPUS


def test_batches_are_of_rules_that_ask_for_gpus():
    text = (REPOSITORY / "slurm" / "grouped" / "profile.yaml").read_text(encoding="utf-8")
    profile = yaml.safe_load(text)
    assert set(profile["groups"]) <= RULES_WITH_GPUS
    # Each in a group of its own, or jobs of several kinds would be one batch.
    assert set(profile["groups"].values()) == set(profile["group-components"])
    assert len(profile["group-components"]) == len(profile["groups"])
    main = yaml.safe_load((REPOSITORY / "slurm" / "profile.yaml").read_text(encoding="utf-8"))
    assert not set(profile) & set(main), "a key of a later profile replaces the whole earlier one"
