"""The slices that the stages of the features study compute with."""

from __future__ import annotations

import json
from pathlib import Path

from glossogenesis.workflow import jobs_features
from support.tiny_features_study import tiny_features_study


def test_a_slice_holds_what_changes_its_stage_and_no_more(tmp_path: Path) -> None:
    study = tiny_features_study(tmp_path)
    assert jobs_features.activations_settings(study, "local")["layers"] == [1, 3, 5]
    training = jobs_features.training_settings(study, "local", "topk.seed5")
    assert training["seed"] == 5
    assert "seeds" not in training["sae"]
    assert training["sae"]["latents"] == 64


def test_a_label_or_a_checkpoint_more_changes_no_training(tmp_path: Path) -> None:
    before = jobs_features.training_settings(tiny_features_study(tmp_path), "local", "topk")
    changed = tiny_features_study(
        tmp_path, lambda content: content["features"].update(language={"share": 0.7})
    )
    assert jobs_features.training_settings(changed, "local", "topk") == before
    assert jobs_features.collection_settings(changed)["language"]["share"] == 0.7


def test_paths_are_resolved_from_the_study(tmp_path: Path) -> None:
    study = tiny_features_study(tmp_path)
    corpus = jobs_features.corpus_settings(study, "text", "local")
    (english,) = corpus["corpus"]["text"]["files"]["en"]
    assert Path(english).resolve() == tmp_path / "en.txt"
    assert corpus["languages"] == {"en": "Latin", "ru": "Cyrillic"}
    assert corpus["lexicon"] is None


def test_injection_goes_from_the_last_checkpoint_into_all_others(tmp_path: Path) -> None:
    study = tiny_features_study(tmp_path)
    assert jobs_features.injection_source(study) == "late"
    assert jobs_features.injection_targets(study) == ("early",)
    assert jobs_features.injection_sae(study) == "topk"


def test_tables_know_the_other_seeds(tmp_path: Path) -> None:
    settings = jobs_features.feature_table_settings(tiny_features_study(tmp_path))
    assert settings["extra_seeds"] == {"topk": ["topk.seed5"], "wide": []}
    assert settings["checkpoints"] == {"local": ["early", "late"], "small": ["start", "end"]}


def test_every_slice_is_json(tmp_path: Path) -> None:
    study = tiny_features_study(tmp_path)
    slices = [
        jobs_features.recovery_settings(study, "local", "topk"),
        jobs_features.training_settings(study, "local", "wide"),
        jobs_features.collection_settings(study),
        jobs_features.matching_settings(study),
        jobs_features.injection_settings(study),
        jobs_features.injection_table_settings(study),
        jobs_features.tracking_table_settings(study),
        jobs_features.feature_figure_settings(study),
    ]
    for settings in slices:
        assert json.loads(json.dumps(settings)) == settings
