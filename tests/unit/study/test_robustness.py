"""The robustness section: what is refused, and the slices that its stages compute with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.study.loading import load_study
from glossogenesis.study.robustness import PostsSettings
from glossogenesis.workflow import jobs_robustness
from glossogenesis.workflow.jobs_robustness import (
    number_of_labels,
    number_of_posts,
    robustness_table_settings,
)
from support.tiny_robustness_study import tiny_robustness_study


def test_models_and_layers_are_those_of_the_study(tmp_path: Path) -> None:
    study = tiny_robustness_study(tmp_path)
    assert study.has_robustness
    assert robustness_table_settings(study)["models"] == {
        "local": {
            "checkpoint": "late",
            "label": "local",
            "layers": [1, 3, 5],
            "tokenizer": "local",
        },
        "small": {"checkpoint": "end", "label": "small", "layers": [0, 1], "tokenizer": "small"},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.update(models={"none": "late"}), "`robustness.models` names 'none'"),
        (lambda r: r.update(models={"local": "never"}), "`robustness.models.local` is 'never'"),
        (lambda r: r["posts"].update(language="xx"), "`robustness.posts.language` names language"),
        (lambda r: r["saes"]["l1"].update(latents=20), "has only 20 latents for 'local'"),
        (lambda r: r.update(classifier={"seeds": [1, 1]}), "1 appears twice; remove one"),
        (
            lambda r: r["saes"].update(
                {"l1.seed1": r["saes"]["l1"], "l1": {**r["saes"]["l1"], "seeds": [0, 1]}}
            ),
            "two autoencoders are called l1.seed1",
        ),
        (lambda r: r["saes"]["l1"].update(warm_start=True), "`saes.l1.warm_start` has no meaning"),
        (lambda r: r["variants"].update(carrier="no place"), "needs `{variant}` exactly once"),
        (lambda r: r.update(baseline={"ngrams": [3, 1]}), "runs of 3 to 1; swap them"),
        (lambda r: r.update(circuit={"thresholds": [0.1, 0.1]}), "0.1 appears twice; remove one"),
        (lambda r: r.update(circuits={}), "circuits"),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    with pytest.raises(StudyError) as raised:
        tiny_robustness_study(tmp_path, lambda content: change(content["robustness"]))
    assert said in str(raised.value)


def test_the_shipped_study_draws_as_many_posts_as_were_published() -> None:
    study = load_study(Path(__file__).parents[3] / "resources/studies/fukasawa2026.yaml")
    # What the job is given is checked once more, and says one way to split.
    written = jobs_robustness.posts_settings(study)["posts"]
    posts = PostsSettings.model_validate(written)
    drawn = posts.posts_per_label
    assert drawn is not None
    assert (posts.labels, drawn.train, drawn.held_out) == (107, 280, 120)
    assert number_of_posts(study) == (107 * 280, 107 * 120)
    assert number_of_labels(study) == 107
    assert study.robustness.circuit.positions[0] == "all"


def test_a_control_more_changes_no_training_and_no_effects(tmp_path: Path) -> None:
    before = tiny_robustness_study(tmp_path)
    after = tiny_robustness_study(
        tmp_path, lambda content: content["robustness"].update(knockout={"draws": 3})
    )
    for slice_of in (jobs_robustness.component_settings, jobs_robustness.circuit_settings):
        assert slice_of(after, "local") == slice_of(before, "local")
    for slice_of in (jobs_robustness.post_training_settings,):
        assert slice_of(after, "l1") == slice_of(before, "l1")
    assert jobs_robustness.knockout_settings(after, "local", "l1")["knockout"]["draws"] == 3


def test_a_seed_more_is_a_run_more_and_changes_no_other(tmp_path: Path) -> None:
    before = tiny_robustness_study(tmp_path)

    def more(content: dict[str, Any]) -> None:
        content["robustness"]["classifier"] = {"seeds": [0, 5]}
        content["robustness"]["saes"]["l1"]["seeds"] = [0, 3]

    after = tiny_robustness_study(tmp_path, more)
    assert [run.folder for run in after.robustness.runs][:2] == [
        "local/late/seed_0",
        "local/late/seed_5",
    ]
    assert after.robustness.trained == {"l1": ("l1", 0), "l1.seed3": ("l1", 3)}
    slice_of = jobs_robustness.classifier_settings
    assert slice_of(after, "local", "0") == slice_of(before, "local", "0")
    assert slice_of(after, "local", "5")["seed"] == 5
    of_sae = jobs_robustness.post_training_settings
    assert of_sae(after, "l1") == of_sae(before, "l1")
    assert of_sae(after, "l1.seed3")["seed"] == 3


def test_length_of_posts_is_in_the_slice_of_tokenised_posts_alone(tmp_path: Path) -> None:
    study = tiny_robustness_study(tmp_path)
    assert jobs_robustness.tokenised_posts_settings(study, "local")["max_tokens"] == 512
    assert (
        "max_tokens" not in jobs_robustness.classifier_settings(study, "local", "0")["classifier"]
    )


def test_paths_are_resolved_from_the_study(tmp_path: Path) -> None:
    posts = jobs_robustness.posts_settings(tiny_robustness_study(tmp_path))["posts"]
    assert Path(posts["text"]["files"][0]).resolve() == tmp_path / "posts.tsv"


def test_every_slice_is_json(tmp_path: Path) -> None:
    study = tiny_robustness_study(tmp_path)
    slices = [
        jobs_robustness.posts_settings(study),
        jobs_robustness.baseline_settings(study),
        jobs_robustness.classifier_settings(study, "small", "1"),
        jobs_robustness.pair_settings(study, "small"),
        jobs_robustness.circuit_settings(study, "small"),
        jobs_robustness.post_activations_settings(study, "small"),
        jobs_robustness.label_feature_settings(study),
        jobs_robustness.knockout_settings(study, "small", "l1"),
        jobs_robustness.variant_settings(study, "small", "l1"),
        jobs_robustness.robustness_figure_settings(study),
    ]
    for each in slices:
        assert json.loads(json.dumps(each)) == each
