"""`glossogenesis plan` counts what Snakemake would run, and `inspect` reads what it wrote."""

import re
from pathlib import Path

from glossogenesis.inspection.content import KINDS
from support.working_tree import ADDED_ROW, WorkingTree, copy_of_repository


def glossogenesis(tree: WorkingTree, *arguments: str, status: int = 0) -> str:
    """Run the command in a tree; return what it printed."""
    return tree.run("glossogenesis.cli", *arguments, status=status)


def planned(tree: WorkingTree) -> dict[str, int]:
    """Return the jobs that `glossogenesis plan` counts, by rule."""
    page = glossogenesis(tree, "plan", "--configfile", tree.study)
    rows = re.findall(r"^(\w+) +(\d+) +\d+ ", page, re.M)
    return {rule: int(count) for rule, count in rows if rule != "total" and count != "0"}


def test_fresh_study_agrees_with_a_dry_run(tmp_path: Path):
    fresh = copy_of_repository(tmp_path / "tree")
    jobs = planned(fresh)
    assert jobs == fresh.planned()
    assert jobs["patch_translations"] == 3


def test_fresh_features_study_agrees_with_a_dry_run_and_says_what_its_caches_take(tmp_path: Path):
    fresh = WorkingTree(copy_of_repository(tmp_path / "tree").root, "features.yaml")
    jobs = planned(fresh)
    assert jobs == fresh.planned()
    assert (jobs["extract_activations"], jobs["train_saes"]) == (3, 6)
    page = glossogenesis(fresh, "plan", "--configfile", "features.yaml")
    assert re.search(r"activation caches .* of it; `glossogenesis purge` frees them", page)


def test_finished_study_has_no_job_left(tree: WorkingTree):
    page = glossogenesis(tree, "plan", "--configfile", "small.yaml")
    assert "no job is left to run" in page


def test_added_checkpoint_and_changed_setting_agree_with_a_dry_run(tree: WorkingTree):
    with (tree.root / "small.tsv").open("a", encoding="utf-8") as sheet:
        sheet.write(ADDED_ROW)
    assert planned(tree) == tree.planned()
    tree.edit("small.yaml", "items: 6", "items: 6\n  max_new_tokens: 3")
    jobs = planned(tree)
    assert jobs == tree.planned()
    assert jobs["patch_translations"] == 4


def test_planning_computes_nothing(tree: WorkingTree):
    before = sorted((tree.root / "results").rglob("*"))
    tree.edit("small.yaml", "items: 6", "items: 5")
    glossogenesis(tree, "plan", "--configfile", "small.yaml")
    assert sorted((tree.root / "results").rglob("*")) == before


def test_mistake_in_a_study_is_one_line(tree: WorkingTree):
    tree.edit("small.yaml", "few_shot: 2", "fewshot: 2")
    printed = glossogenesis(tree, "plan", "--configfile", "small.yaml", status=1)
    assert printed.startswith("Error: small.yaml: unknown key `concepts.fewshot`")
    assert printed.count("\n") == 1


def test_every_artifact_of_a_run_has_a_kind_in_words(
    finished_study: WorkingTree,
    finished_features: WorkingTree,
    finished_robustness: WorkingTree,
):
    trees = (finished_study, finished_features, finished_robustness)
    pages = "".join(glossogenesis(tree, "inspect", "results") for tree in trees)
    assert "damaged" not in pages
    # None of these studies trains a model more than once.
    elsewhere = {"differences between trainings of one model"}
    assert {words for words in KINDS.values() if words not in pages} == elsewhere


def test_every_table_and_tensor_file_of_a_run_can_be_inspected(finished_study: WorkingTree):
    results = finished_study.root / "results"
    for file in [
        results / "pretraining" / "tiny" / "training.parquet",
        results / "checkpoints" / "tiny" / "last" / "manifest.json",
        results / "prompts" / "tiny" / "translation.parquet",
        results / "concepts" / "tiny" / "last" / "states.safetensors",
        results / "concepts" / "tiny" / "last" / "patching.parquet",
        results / "tables" / "concepts_accuracy.parquet",
    ]:
        page = glossogenesis(finished_study, "inspect", str(file))
        assert re.search(r"^study +small", page, re.M), page
        assert "Settings used" in page
