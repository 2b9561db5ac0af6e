"""Shipped studies plan on a fresh clone; a run stops at once where their files are not in place."""

import re
from pathlib import Path

import pytest

from glossogenesis.study.loading import load_study
from glossogenesis.study.setups import depth_thirds
from support.working_tree import REPOSITORY, WorkingTree, copy_of_repository

STUDIES = REPOSITORY / "resources" / "studies"
CHECKPOINTS = {
    "koerner2026": 26,
    "bloom-560m": 8,
    "inaba2025": 10,
    "fukasawa2026": 2,
    "showcase": 26,
}
CONCEPTS = ("koerner2026", "bloom-560m")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> WorkingTree:
    """The sources alone, as a fresh clone has them."""
    return copy_of_repository(tmp_path_factory.mktemp("clone") / "tree")


def test_every_shipped_study_is_tested() -> None:
    assert {path.stem for path in STUDIES.glob("*.yaml")} == CHECKPOINTS.keys()


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_loads(name: str) -> None:
    study = load_study(STUDIES / f"{name}.yaml")
    assert study.name == name
    assert len(study.sheet) == CHECKPOINTS[name]


def test_showcase_is_the_demo_in_a_larger_size(clone: WorkingTree) -> None:
    printed = clone.snakemake("--dry-run", study="resources/studies/showcase.yaml")
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", printed.partition("Job stats:")[2], re.M))
    assert jobs["pretrain_model"] == "5"
    assert jobs["patch_translations"] == "19"
    assert jobs["finetune_classifier"] == "6"


def test_inaba2025_has_what_the_table_of_the_paper_has() -> None:
    features = load_study(STUDIES / "inaba2025.yaml").features
    assert features.grid == 1572
    injection = features.injection
    assert injection is not None
    thirds = {
        region
        for layer in injection.layers
        for region, of in depth_thirds(24).items()
        if layer in of
    }
    assert thirds == {"early", "middle", "late"}
    assert set(injection.translation.files) == {"en-ja", "ja-en"}
    assert injection.comet == "Unbabel/wmt22-comet-da"


@pytest.mark.parametrize("name", CONCEPTS)
def test_plans_every_checkpoint(clone: WorkingTree, name: str) -> None:
    printed = clone.snakemake("--dry-run", study=f"resources/studies/{name}.yaml")
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", printed.partition("Job stats:")[2], re.M))
    for rule in ("fetch_checkpoint", "extract_states", "patch_translations"):
        assert jobs[rule] == str(CHECKPOINTS[name])
    assert jobs["write_prompts"] == "1"
    assert "pretrain_model" not in jobs


def test_streams_every_layer_of_every_checkpoint(clone: WorkingTree) -> None:
    printed = clone.snakemake("--dry-run", study="resources/studies/inaba2025.yaml")
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", printed.partition("Job stats:")[2], re.M))
    for stage in ("train_saes", "collect_features"):
        blocks = sum(int(count) for rule, count in jobs.items() if rule.startswith(stage))
        # The largest model's layers take two jobs.
        assert blocks == CHECKPOINTS["inaba2025"] + 1
    assert jobs["prepare_corpus"] == "1"
    # Parallel text that is not in place yet keeps nothing from being planned.
    assert jobs["inject_features"] == "5"


def test_a_run_stops_at_once_where_files_are_missing(clone: WorkingTree) -> None:
    arguments = ("--cores", "1")
    study = "resources/studies/koerner2026.yaml"
    printed = clone.snakemake(*arguments, study=study, status=1)
    assert "multi-simlex/translation.csv: no such lexicon; put it there or correct" in printed
    assert "(26 more not in place)" in printed
    assert not list(Path(clone.root).glob("results/*/*"))
    assert "Error in rule" not in printed
