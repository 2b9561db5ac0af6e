"""Rules, programs and pages agree with the registry of stages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glossogenesis.study.study import Study
from glossogenesis.workflow.registry import (
    STAGES,
    blocks_of,
    map_of_results,
    stage_of_rule,
    written_by,
)
from support.tiny_features_study import tiny_features_study
from support.tiny_robustness_study import tiny_robustness_study

REPOSITORY = Path(__file__).parents[3]

RULES = r"""
import json, re, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    given = ConfigSettings(configfiles=[Path("config.yaml"), Path(sys.argv[1])])
    cores, snakefile = ResourceSettings(cores=4), Path("Snakefile")
    workflow = api.workflow(cores, config_settings=given, snakefile=snakefile)._workflow
    rules = {
        rule.name: {
            "outputs": list(map(str, rule.output)),
            "log": list(map(str, rule.log)),
            "benchmark": str(rule.benchmark),
            "script": rule.params.get("script"),
            "params": list(rule.params.keys()),
            "resources": list(rule.resources),
            "environment": str(rule.conda_env),
            "message": rule.message,
            "command": rule.shellcmd,
        }
        for rule in workflow.rules
        if rule.output
    }
# Wildcards are shown with what they match.
print(re.sub(r"\{(\w+),[^{}]*\}", r"{\1}", json.dumps(rules)))
"""
"""Reads the workflow as a run does, and prints its rules."""


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The rules of the demo study with several seeds of an autoencoder, so with every stage."""
    more = tmp_path_factory.mktemp("study") / "more.yaml"
    more.write_text("features: {saes: {topk: {seeds: [0, 1]}}}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RULES, str(more)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_rule_is_a_stage_and_every_stage_a_rule(rules: dict[str, dict[str, Any]]) -> None:
    assert {stage_of_rule(name).name for name in rules} == set(STAGES)


def test_a_rule_takes_what_its_own_stage_declares(rules: dict[str, dict[str, Any]]) -> None:
    for name, rule in rules.items():
        stage = stage_of_rule(name)
        outputs = [re.sub(r"^results/", "", path) for path in rule["outputs"]]
        layers = [re.sub(r"layer_[0-9]+", "layer_{layer}", path) for path in outputs]
        for path in layers:
            assert stage.setup_of(path) is not None, (name, path)
        first = re.search(r"layer_([0-9]+)", outputs[0])
        named = stage.job_path(int(first[1]) if first else None)
        assert rule["log"] == [f"logs/{named}.log"]
        assert rule["benchmark"] == f"benchmarks/measured/{named}.tsv"
        assert {"script", "code", "settings"} <= set(rule["params"]), name
        assert {"mem_mb", "runtime", "disk_mb", "study"} <= set(rule["resources"]), name
        assert ("gpu" in rule["resources"]) == stage.gpu, name
        assert rule["environment"].endswith(".yaml"), name
        assert rule["message"], name
        assert rule["command"].startswith("python {params.script} "), name


def test_every_program_is_that_of_a_stage(rules: dict[str, dict[str, Any]]) -> None:
    programs = {Path(rule["script"]).stem for rule in rules.values()} | {"stream_saes"}
    assert programs == {path.stem for path in (REPOSITORY / "workflow_scripts").glob("*.py")}


def test_the_map_of_results_is_that_of_the_stages() -> None:
    page = (REPOSITORY / "results" / "README.md").read_text(encoding="utf-8")
    table = page.partition("|---|---|\n")[2].partition("\n\n")[0]
    assert table.splitlines() == map_of_results()


@pytest.fixture(params=[tiny_features_study, tiny_robustness_study])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Study:
    made: Study = request.param(tmp_path)
    return made


def test_a_path_leads_back_to_its_stage_and_setup(study: Study) -> None:
    for stage in STAGES.values():
        for output in stage.artifacts_in(study):
            for setup, path in zip(stage.jobs_in(study), stage.paths(study, output), strict=True):
                found = written_by(path)
                assert found is not None
                assert found[1] == setup
                # Figures of all parts lie in one folder.
                assert found[0].name == stage.name or stage.name.startswith("plot_")


def test_blocks_are_all_layers_of_each_model(study: Study) -> None:
    for stage in STAGES.values():
        if "{layer}" in stage.path():
            done = {
                (model, layer)
                for layers, models in blocks_of(study, stage).items()
                for model in models
                for layer in layers
            }
            written = {(setup["model"], int(setup["layer"])) for setup in stage.jobs_in(study)}
            assert done == written, stage.name
