"""The features study: what it makes, what purging leaves, and what a change computes again."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from support.working_tree import ADDED_ROW, REPOSITORY, WorkingTree, copy_of_repository

AGGREGATES = {"tabulate_features": 1, "plot_features": 1}


def manifest_of(tree: WorkingTree, layer: int, checkpoint: str = "last") -> Path:
    folder = tree.root / "results" / "activations" / "tiny" / checkpoint / "documents"
    return folder / f"layer_{layer}" / "manifest.json"


def purge(tree: WorkingTree, *options: str) -> str:
    return tree.run("glossogenesis.cli", "purge", "--configfile", "features.yaml", *options)


def test_finished_study_has_nothing_to_do(features_tree: WorkingTree):
    assert "Nothing to be done" in features_tree.snakemake("--dry-run")


def test_every_setup_is_in_the_tables(finished_features: WorkingTree):
    tables = finished_features.root / "results" / "tables"
    languages = pl.read_parquet(tables / "features_languages.parquet")
    setups = languages.drop_nulls("layer").select("checkpoint", "layer").unique()
    assert setups.height == 3 * 2
    quality = pl.read_parquet(tables / "features_quality.parquet")
    assert set(quality["sae"]) == {"topk", "topk.seed1"}
    assert quality.filter(sae="topk")["recovered"].is_not_null().all()


def test_purged_study_stays_finished(features_tree: WorkingTree):
    shards = list(manifest_of(features_tree, 0).parent.glob("*.safetensors"))
    assert shards
    assert "would free" in purge(features_tree, "--dry-run")
    assert all(shard.exists() for shard in shards)
    assert "freed" in purge(features_tree)
    assert not any(shard.exists() for shard in shards)
    assert manifest_of(features_tree, 0).exists()
    assert "Nothing to be done" in features_tree.snakemake("--dry-run")


def test_purge_keeps_what_unfinished_jobs_need(features_tree: WorkingTree):
    missing = "results/sae/tiny/last/layer_0/topk/quality.json"
    (features_tree.root / missing).unlink()
    assert "kept the shards of 2 layers" in purge(features_tree)
    # One job measures both layers, and does so again when it is started.
    for layer in (0, 1):
        assert list(manifest_of(features_tree, layer).parent.glob("*.safetensors"))
    features_tree.snakemake("--cores", "2", missing)
    assert "kept" not in purge(features_tree)
    assert not list(manifest_of(features_tree, 0).parent.glob("*.safetensors"))


def test_remade_cache_is_the_same_and_recomputes_nothing(features_tree: WorkingTree):
    manifest = manifest_of(features_tree, 1)
    before = manifest.read_text()
    purge(features_tree)
    manifest.unlink()
    features_tree.snakemake("--cores", "1", str(manifest.relative_to(features_tree.root)))
    assert manifest.read_text() == before
    assert list(manifest.parent.glob("*.safetensors"))
    assert "Nothing to be done" in features_tree.snakemake("--dry-run")


def test_new_kind_of_autoencoder_needs_the_cache_and_retrains_no_other(
    features_tree: WorkingTree,
):
    features_tree.edit("features.yaml", "  saes:", "  saes:\n    wide: {latents: 64, k: 4}")
    planned = features_tree.planned()
    assert planned["train_saes"] == 3
    assert "extract_activations" not in planned


def test_added_row_plans_that_checkpoint_its_match_and_the_aggregates(
    features_tree: WorkingTree,
):
    with (features_tree.root / "small.tsv").open("a", encoding="utf-8") as sheet:
        sheet.write(ADDED_ROW)
    features_tree.edit("features.yaml", "targets: [first]", "targets: [first], source: last")
    # The vectors of tokens are those of the last checkpoint, which an added last row changes.
    planned = features_tree.planned()
    own = {"fetch_checkpoint": 1, "extract_activations": 1, "train_saes": 2, "measure_quality": 2}
    assert own.items() <= planned.items()
    assert planned["collect_features"] == 4
    assert planned["match_features"] == 3
    assert AGGREGATES.items() <= planned.items()


def test_added_layer_is_trained_alone_where_a_job_does_one_and_activations_are_made_first(
    tmp_path: Path,
):
    tree = WorkingTree(copy_of_repository(tmp_path / "tree").root, "features.yaml")
    tree.edit("features.yaml", "layers: [0], targets", "layers: [1], targets")
    tree.edit("features.yaml", "layers: all}", "layers: [1], layers_per_job: 1}")
    targets = [f"results/sae/tiny/last/layer_{layer}/topk/cfg.json" for layer in (1, 0)]
    tree.snakemake("--cores", "1", "--", targets[0])
    tree.edit("features.yaml", "layers: [1], layers_per_job", "layers: all, layers_per_job")
    # A job that is planned counts as one that will change what it makes.
    assert sum(tree.planned("--", *targets).values()) == 3
    tree.snakemake("--cores", "1", "--until", "extract_activations", "--", *targets)
    assert tree.planned("--", *targets) == {"train_saes": 1}


def test_changed_rule_of_labels_leaves_training_alone(features_tree: WorkingTree):
    features_tree.edit("features.yaml", "  recovery:", "  language: {share: 0.8}\n  recovery:")
    planned = features_tree.planned()
    assert planned["collect_features"] == 3
    assert not {"train_saes", "extract_activations", "measure_quality"} & planned.keys()


def test_changed_metric_leaves_training_alone(features_tree: WorkingTree):
    features_tree.edit(
        "workflow_scripts/measure_quality.py",
        "def main() -> None:",
        "CHANGED = 1\n\n\ndef main() -> None:",
    )
    assert features_tree.planned() == {"measure_quality": 6, **AGGREGATES}


def test_damaged_shard_stops_with_one_line_that_names_it(features_tree: WorkingTree):
    shard = next(manifest_of(features_tree, 0).parent.glob("held_out*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(bytes(content))
    quality = "results/sae/tiny/last/layer_0/topk/quality.json"
    (features_tree.root / quality).unlink()
    printed = features_tree.snakemake("--cores", "1", "--show-failed-logs", quality, status=1)
    (line,) = re.findall(r"^Error: .*", printed, re.M)
    assert shard.name in line
    assert "Traceback" not in printed


def test_streaming_trains_the_same_autoencoders(finished_features: WorkingTree, tmp_path: Path):
    tree = WorkingTree(copy_of_repository(tmp_path / "stream").root, "features.yaml")
    tree.edit("features.yaml", "{window: 1024}", "{window: 1024, mode: stream}")
    tree.edit("features.yaml", "layers: all", "layers: all, layers_per_job: 1")
    (tree.root / "results").mkdir()
    for stage in ("pretraining", "checkpoints", "corpora"):
        source = finished_features.root / "results" / stage
        (tree.root / "results" / stage).symlink_to(source)
    target = "results/sae/tiny/last/layer_1/topk/sae_weights.safetensors"
    tree.snakemake("--cores", "1", "--show-failed-logs", "--rerun-triggers", "mtime", "--", target)
    assert weights_in(tree.root / target) == weights_in(finished_features.root / target)
    manifest = json.loads(manifest_of(tree, 1).read_text())
    assert "train" not in manifest["splits"]


def weights_in(path: Path) -> dict[str, bytes]:
    from safetensors.numpy import load_file

    return {name: array.tobytes() for name, array in load_file(path).items()}


@pytest.mark.slow
def test_the_grid_of_the_paper_plans_every_setup_once(tmp_path: Path):
    tree = copy_of_repository(tmp_path / "tree")
    study = (REPOSITORY / "resources/studies/inaba2025.yaml").read_text(encoding="utf-8")
    study = study.replace("mode: stream", "mode: cache").replace("inaba2025.tsv", "grid.tsv")
    (tree.root / "grid.yaml").write_text(study, encoding="utf-8")
    sizes = {"150m": 16, "440m": 16, "980m": 16, "1.8b": 16, "3.7b": 15}
    rows = [
        f"llm-jp-3-{size}\tstep{step}\t{step}\tllm-jp/llm-jp-3-{size}\tstep{step}"
        for size, checkpoints in sizes.items()
        for step in range(checkpoints)
    ]
    header = "model\tcheckpoint\tstep\tsource\trevision"
    (tree.root / "grid.tsv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    printed = tree.snakemake("--dry-run", "--quiet", "rules", "--", study="grid.yaml")
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", printed, re.M))
    counts = {"extract_activations": 79, "train_saes": 79 + 15, "measure_quality": 79}
    for stage, count in counts.items():
        assert sum(int(n) for rule, n in jobs.items() if rule.startswith(stage)) == count


@pytest.mark.parametrize("mode", ["cache", "stream"])
def test_warm_start_begins_with_the_checkpoint_before(tmp_path: Path, mode: str):
    tree = WorkingTree(copy_of_repository(tmp_path / "tree").root, "features.yaml")
    tree.edit("features.yaml", "seeds: [0, 1]", "warm_start: true")
    tree.edit("features.yaml", "{window: 1024}", f"{{window: 1024, mode: {mode}}}")
    target = "results/sae/tiny/last/layer_1/topk/cfg.json"
    printed = tree.snakemake("--dry-run", "--printshellcmds", target)
    commands = [line for line in printed.splitlines() if "--warm-start" in line]
    weights = [f"results/sae/tiny/middle/layer_{n}/topk/sae_weights.safetensors" for n in (0, 1)]
    assert any(f"--warm-start {' '.join(weights)} " in line for line in commands)
    assert len([line for line in commands if re.search("--warm-start +--resume-dir", line)]) == 1
