"""Which caches of a study are used up."""

from __future__ import annotations

from pathlib import Path

from glossogenesis.workflow.disk import bytes_of_shards, caches_of
from support.tiny_features_study import tiny_features_study
from support.tiny_robustness_study import tiny_robustness_study


def test_a_cache_is_used_up_when_all_that_reads_it_is_there(tmp_path: Path) -> None:
    study = tiny_features_study(tmp_path)
    results = tmp_path / "results"
    folder = results / "activations" / "local" / "early" / "text" / "layer_1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").touch()
    (folder / "train_00000.safetensors").write_bytes(b"12345")
    (cache,) = caches_of(study, results)
    # A job that measures or describes this layer reads the other layers too.
    assert len(cache.unfinished) == (3 * 2 + 2) * len(study.layers_of("local"))
    for path in cache.unfinished:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (cache,) = caches_of(study, results)
    assert cache.unfinished == ()
    assert bytes_of_shards(cache.manifest) == 5


def test_caches_of_classifiers_are_used_up_when_their_features_are_there(tmp_path: Path) -> None:
    study = tiny_robustness_study(tmp_path)
    results = tmp_path / "results"
    setup = Path("local", "late", "seed_0", "layer_3")
    manifest = results / "post_activations" / setup / "manifest.json"
    weights = results / "post_saes" / setup / "l1" / "sae_weights.safetensors"
    for path in (manifest, weights):
        path.parent.mkdir(parents=True)
        path.touch()
    (cache,) = caches_of(study, results)
    # A job does all layers of a classifier.
    made = {
        results / stage / setup.with_name(f"layer_{layer}") / "l1" / name
        for layer in study.layers_of("local")
        for stage, name in (
            ("post_saes", "sae_weights.safetensors"),
            ("post_features", "labels.parquet"),
        )
    }
    assert set(cache.unfinished) == made - {weights}
