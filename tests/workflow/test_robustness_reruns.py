"""The robustness study: what it makes, what purging leaves, and what a change computes again."""

import polars as pl

from support.working_tree import WorkingTree

AGGREGATES = {"tabulate_robustness": 1, "plot_robustness": 1}
TABLES = ("classification", "circuit", "features", "knockout", "cues", "variants", "comparisons")


def test_finished_study_has_nothing_to_do(robustness_tree: WorkingTree):
    assert "Nothing to be done" in robustness_tree.snakemake("--dry-run")


def test_both_models_are_in_every_table(finished_robustness: WorkingTree):
    tables = finished_robustness.root / "results" / "tables"
    for name in TABLES:
        table = pl.read_parquet(tables / f"robustness_{name}.parquet")
        if name != "comparisons":
            assert {"tiny", "tiny-ja"} <= set(table["model"]), name
        assert (tables / f"robustness_{name}.csv").read_text().count("\n") > table.height


def test_posts_are_cut_once_for_models_that_share_a_tokenizer(finished_robustness: WorkingTree):
    folder = finished_robustness.root / "results" / "posts"
    assert [path.name for path in folder.glob("*/manifest.json")] == ["manifest.json"]
    assert (folder / "tiny" / "manifest.json").exists()


def test_purged_study_stays_finished(robustness_tree: WorkingTree):
    folder = robustness_tree.root / "results" / "post_activations"
    assert list(folder.rglob("*.safetensors"))
    freed = robustness_tree.run("glossogenesis.cli", "purge", "--configfile", "robustness.yaml")
    assert "freed" in freed
    assert not list(folder.rglob("*.safetensors"))
    assert "Nothing to be done" in robustness_tree.snakemake("--dry-run")


def test_another_knockout_leaves_everything_else_alone(robustness_tree: WorkingTree):
    robustness_tree.edit("robustness.yaml", "knockout: {draws: 1", "knockout: {draws: 2")
    assert robustness_tree.planned() == {"knock_out_features": 2, **AGGREGATES}


def test_another_threshold_patches_no_component_again(robustness_tree: WorkingTree):
    robustness_tree.edit("robustness.yaml", "thresholds: [0.01]", "thresholds: [0.02]")
    assert robustness_tree.planned() == {"ablate_circuit": 2, **AGGREGATES}


def test_another_rate_of_the_classifier_leaves_pretraining_and_posts_alone(
    robustness_tree: WorkingTree,
):
    robustness_tree.edit("robustness.yaml", "learning_rate: 0.01", "learning_rate: 0.02")
    planned = robustness_tree.planned()
    assert planned["finetune_classifier"] == 2
    kept = {"pretrain_model", "fetch_checkpoint", "prepare_posts", "tokenise_posts"}
    assert not kept & planned.keys()
    assert "train_baseline" not in planned


def test_changed_start_trains_what_continues_it_again(robustness_tree: WorkingTree):
    robustness_tree.edit("robustness.yaml", "saved_steps: [4]", "saved_steps: [2, 4]")
    assert robustness_tree.planned()["pretrain_model"] == 2


def test_every_artifact_can_be_inspected(finished_robustness: WorkingTree):
    results = finished_robustness.root / "results"
    for place in (
        "posts/posts.parquet",
        "classifiers/tiny/last/seed_0/manifest.json",
        "components/tiny/last/seed_0/effects.parquet",
        "post_features/tiny/last/seed_0/layer_1/l1/cues.parquet",
        "knockout/tiny/last/seed_0/l1.parquet",
        "spelling_variants/tiny/last/seed_0/l1.parquet",
    ):
        printed = finished_robustness.run("glossogenesis.cli", "inspect", str(results / place))
        assert "small-robustness" in printed, place
