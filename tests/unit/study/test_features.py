"""The features part of a study: presets, names, layers, and what it needs of the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from glossogenesis.exceptions import StudyError
from glossogenesis.study.features import SaeSettings
from support.tiny_features_study import tiny_features_study


def test_presets_are_those_of_the_papers() -> None:
    inaba = SaeSettings.model_validate({"preset": "inaba2025"})
    assert (inaba.architecture, inaba.latents, inaba.k) == ("topk", 32768, 32)
    assert (inaba.batch_size, inaba.warmup_steps) == (32768, 1000)
    assert (inaba.adam_epsilon, inaba.auxk_coefficient) == (6.25e-10, 0)
    assert (inaba.normalise, inaba.epochs, inaba.decay_share) == ("l2", 1, 0)
    fukasawa = SaeSettings.model_validate({"preset": "fukasawa2026"})
    assert (fukasawa.architecture, fukasawa.l1_coefficient) == ("relu", 0.03)
    assert fukasawa.latents_of(2304) == 9216
    assert (fukasawa.batch_size, fukasawa.epochs) == (512, 10)


def test_given_keys_replace_the_preset() -> None:
    sae = SaeSettings.model_validate({"latents": 100, "k": 2})
    assert (sae.latents, sae.expansion, sae.k) == (100, None, 2)
    relu = SaeSettings.model_validate({"architecture": "relu", "l1_coefficient": 0.1})
    assert relu.k is None
    assert relu.training.auxk_coefficient == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"latents": 8, "k": 9}, "k is 9, larger than the dictionary of 8 latents"),
        ({"latents": 8, "expansion": 2}, "give one of `latents` and `expansion`"),
        ({"architecture": "relu", "k": 3}, "`k` has no meaning for `relu`"),
        ({"architecture": "batchtopk"}, "`batchtopk` needs `k`"),
        ({"l1_coefficient": 0.1}, "`l1_coefficient` is for `relu`"),
        ({"seeds": [1, 1]}, "1 appears twice"),
    ],
)
def test_contradictions_are_named(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        SaeSettings.model_validate(given)


def test_first_seed_has_the_plain_name(tmp_path: Path) -> None:
    trained = tiny_features_study(tmp_path).features.trained
    assert trained == {"topk": ("topk", 3), "topk.seed5": ("topk", 5), "wide": ("wide", 0)}


def test_layers_and_checkpoints(tmp_path: Path) -> None:
    study = tiny_features_study(
        tmp_path, lambda content: content["features"].update(checkpoints={"local": ["late"]})
    )
    assert study.layers_of("local") == (1, 3, 5)
    assert study.layers_of("small") == (0, 1)
    assert study.feature_checkpoints("local") == ("late",)
    assert study.feature_checkpoints("small") == ("start", "end")


def test_budgets_are_balanced_or_given_for_each_language(tmp_path: Path) -> None:
    corpus = tiny_features_study(tmp_path).settings.corpora["text"]
    assert corpus.tokens_of("train", "ru") == corpus.tokens_of("train", "en") == 1000
    assert corpus.tokens_of("held_out", "ru") == 300


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s["features"].update(corpus="texts"), r"`features.corpus` names 'texts'"),
        (
            lambda s: s["models"]["local"].pop("n_layers"),
            r"`models.local.n_layers` is missing; give the number of layers",
        ),
        (
            lambda s: s["models"]["local"].update(layers=[1, 6]),
            r"`models.local.layers` names layer 6, but the last is 5",
        ),
        (
            lambda s: s["features"]["injection"].update(layers=[2]),
            r"names layer 2, which `models.local.layers` does not cover \(there: 1, 3, 5\)",
        ),
        (
            lambda s: s["features"]["injection"].update(targets=["never"]),
            r"`features.injection.targets` names 'never'",
        ),
        (
            lambda s: s["features"]["injection"].update(model="other"),
            r"`features.injection.model` names 'other'",
        ),
        (
            lambda s: s["features"].update(models=["other"]),
            r"`features.models` names 'other', which has no row",
        ),
        (
            lambda s: s["features"].update(checkpoints={"small": ["late"]}),
            r"`features.checkpoints.small` names 'late'",
        ),
        (
            lambda s: s["models"]["small"].update(shares_tokenizer_with="nobody"),
            r"`models.small.shares_tokenizer_with` names 'nobody'",
        ),
        (
            lambda s: s["languages"]["ru"].update(script="Latin"),
            r"`features.language.by` is 'script', but en and ru have the same script",
        ),
        (
            lambda s: s["corpora"]["text"].update(held_out_tokens={"en": 5}),
            r"held_out_tokens names en, but the text has en, ru",
        ),
        (
            lambda s: s["corpora"]["text"].update(
                held_out_tokens=5, text={"kind": "files", "files": {"xx": ["x.txt"]}}
            ),
            r"`corpora.text.text` names language 'xx'",
        ),
        (
            lambda s: s["features"]["saes"]["topk"].update(latent=3),
            r"unknown key `features.saes.topk.latent`; did you mean `latents`",
        ),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    with pytest.raises(StudyError, match=expected):
        tiny_features_study(tmp_path, change)
