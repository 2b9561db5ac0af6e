"""Effects of components: the published formula, identities, and undefined denominators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.robustness.components import effects as component_identities
from glossogenesis.robustness.components.effects import (
    EFFECTS_SCHEMA,
    ComponentEffects,
    DirectEffects,
    PatchedPairs,
    PatchingRule,
    check_component_identities,
    check_components_in_float32,
    component_effects,
    distinct_pairs,
    effects_table,
    n_runs,
    pairs_of_posts,
)
from glossogenesis.robustness.components.fast import capture_components, run_components
from glossogenesis.robustness.components.rows import ComponentValues, Outputs
from support.tiny_classifiers import LENGTHS, tiny_classifier
from support.tiny_models import EACH_ARCHITECTURE, random_tokens

PROMPTS = random_tokens(LENGTHS)
CLEAN = torch.tensor([0, 2, 0, 4, 3])
CORRUPTED = torch.tensor([1, 1, 5, 0, 2])
FAST = PatchingRule(mode="fast", outputs="added", batch_size=4)
REFERENCE = PatchingRule(mode="reference", outputs="added", batch_size=16)


@pytest.fixture(params=EACH_ARCHITECTURE)
def anatomy(request: pytest.FixtureRequest) -> Anatomy:
    return tiny_classifier(request.param)


def pairs_for(anatomy: Anatomy) -> PatchedPairs:
    """Each with the label whose logits differ most: small denominators magnify rounding."""
    _, logits = capture_components(anatomy, PROMPTS, batch_size=4)
    labels = (logits[CLEAN] - logits[CORRUPTED]).abs().argmax(dim=1)
    return PatchedPairs(CLEAN, CORRUPTED, labels)


def test_fast_equals_reference(anatomy: Anatomy) -> None:
    pairs = pairs_for(anatomy)
    finished: list[int] = []
    fast = component_effects(anatomy, PROMPTS, pairs, FAST, finished.append)
    reference = component_effects(anatomy, PROMPTS, pairs, REFERENCE)
    for name in ("clean", "corrupted", "patched", "effect"):
        torch.testing.assert_close(
            getattr(fast, name), getattr(reference, name), rtol=1e-4, atol=1e-4, msg=name
        )
    assert fast.effect.abs().max() > 0.1
    assert sum(finished) == n_runs(anatomy, pairs) == 5 * 8 + 4


@pytest.mark.parametrize("outputs", ["added", "before_norm"])
def test_all_is_one_and_nothing_is_none(anatomy: Anatomy, outputs: Outputs) -> None:
    """To 1e-4, stricter than what every run asserts."""
    pairs = pairs_for(anatomy)
    rows = component_identities.identity_rows(anatomy, pairs)
    prompts = [PROMPTS[prompt] for prompt in torch.cat([CLEAN, CORRUPTED])]
    values, logits = capture_components(anatomy, prompts, outputs=outputs, batch_size=4)
    patched = run_components(
        anatomy, PROMPTS, rows, values, mode="fast", outputs=outputs, batch_size=4
    )
    clean, corrupted = logits.split(5)
    everything, nothing, own = patched.split(5)
    effect = ((everything - corrupted) / (clean - corrupted)).gather(1, pairs.labels[:, None])
    torch.testing.assert_close(effect, torch.ones_like(effect), rtol=0, atol=1e-4)
    torch.testing.assert_close(nothing, corrupted, rtol=0, atol=1e-4)
    torch.testing.assert_close(own, corrupted, rtol=0, atol=1e-4)
    rule = PatchingRule("fast", outputs, 4)
    assert check_component_identities(anatomy, PROMPTS, pairs, rule, "tiny step1") < 1e-4
    anatomy.model.to(torch.bfloat16)
    found = check_components_in_float32(anatomy, PROMPTS, pairs, rule, "tiny step1")
    assert found.rows == 4
    assert found.largest < 1e-4
    assert anatomy.dtype == torch.bfloat16


def test_formula_by_hand() -> None:
    """A block of Llama whose MLP is silent: effects of attention and embedding make up 1."""
    anatomy = tiny_classifier("llama", num_hidden_layers=1)
    anatomy.mlp_outputs[0].weight.zero_()
    pairs = pairs_for(anatomy)
    effects = component_effects(anatomy, PROMPTS, pairs, FAST)
    values, logits = capture_components(anatomy, PROMPTS, batch_size=4)
    for pair, (clean, corrupted, label) in enumerate(
        zip(pairs.clean, pairs.corrupted, pairs.labels, strict=True)
    ):
        attention = values.outputs[clean, 0, 0]
        patched = anatomy.logits(values.embeddings[corrupted] + attention)[label]
        lost = logits[clean, label] - logits[corrupted, label]
        expected = (patched - logits[corrupted, label]) / lost
        torch.testing.assert_close(effects.effect[pair, 0, 0], expected, rtol=1e-4, atol=1e-4)
        assert abs(effects.effect[pair, 0, 1]) < 1e-4


def test_undefined_where_clean_and_corrupted_are_alike() -> None:
    effects = ComponentEffects(
        clean=torch.tensor([1.0, 1.0, 1.0]),
        corrupted=torch.tensor([1.0, 1.0 - 1e-3, 1.0 + 2.0]),
        patched=torch.tensor([2.0, 1.0, 2.0])[:, None, None].expand(3, 1, 2),
        direct=DirectEffects(torch.full((3, 1, 2), 0.5), torch.full((3,), 1.5)),
    )
    assert effects.undefined.tolist() == [True, False, False]
    torch.testing.assert_close(effects.effect[:, 0, 0], torch.tensor([0.0, 1.0, 0.5]))
    assert (effects.direct_effect[2, 0, 0], effects.direct_total[2]) == (-0.25, -0.75)
    assert (effects.direct_effect[0] == 0).all() and effects.direct_total[0] == 0


def test_a_post_paired_with_itself_is_undefined() -> None:
    anatomy = tiny_classifier("llama")
    alike = PatchedPairs(*(torch.tensor([number]) for number in (0, 0, 2)))
    effects = component_effects(anatomy, PROMPTS, alike, FAST)
    assert effects.undefined.tolist() == [True]
    assert (effects.effect == 0).all()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("attention", "with every component and the embedding replaced"),
        ("embedding", "with its own embedding put in place"),
    ],
)
def test_a_broken_model_reports_nothing(
    monkeypatch: pytest.MonkeyPatch, broken: str, message: str
) -> None:
    """A capture that is off by a little stands for code that does not do what it says."""
    anatomy = tiny_classifier("llama")

    def off(*arguments: Any, **keywords: Any) -> Any:
        values, logits = capture_components(*arguments, **keywords)
        outputs, embeddings = values.outputs.clone(), values.embeddings.clone()
        (outputs[:, 1, 0] if broken == "attention" else embeddings[len(CLEAN) :]).add_(0.05)
        return ComponentValues(outputs, embeddings), logits

    monkeypatch.setattr(component_identities, "capture_components", off)
    pairs = pairs_for(anatomy)
    with pytest.raises(RuntimeError, match=f"tiny step1: {message}"):
        check_component_identities(anatomy, PROMPTS, pairs, FAST, "tiny step1")
    # In bfloat16 it could be rounding; the sample in float32 tells.
    anatomy.model.to(torch.bfloat16)
    check_component_identities(anatomy, PROMPTS, pairs, FAST, "tiny step1")
    with pytest.raises(RuntimeError, match=f"tiny step1 in float32: {message}"):
        check_components_in_float32(anatomy, PROMPTS, pairs, FAST, "tiny step1")


PAIRS_TABLE = pl.DataFrame(
    {
        "set": ["own", "own", "common"],
        "pair": [0, 1, 0],
        "clean": [2, 0, 0],
        "corrupted": [1, 1, 1],
        "clean_label": ["pets", "cars", "cars"],
    },
    schema_overrides={"pair": pl.Int32, "clean": pl.Int32, "corrupted": pl.Int32},
)


def test_pairs_of_several_sets_run_once() -> None:
    distinct = distinct_pairs(PAIRS_TABLE)
    pairs = pairs_of_posts(distinct, {"cars": 0, "pets": 1}, 3, Path("pairs.parquet"))
    assert (pairs.clean.tolist(), pairs.corrupted.tolist()) == ([2, 0], [1, 1])
    assert pairs.labels.tolist() == [1, 0]
    effects = ComponentEffects(
        clean=torch.tensor([2.0, 4.0]),
        corrupted=torch.tensor([0.0, 4.0]),
        patched=torch.arange(8.0).view(2, 2, 2),
        direct=DirectEffects(torch.arange(8.0).view(2, 2, 2) / 4, torch.tensor([1.0, 3.0])),
    )
    table = effects_table(PAIRS_TABLE, distinct, effects)
    assert table.schema == EFFECTS_SCHEMA
    assert table["set"].to_list() == ["own"] * 8 + ["common"] * 4
    assert table["pair"].to_list() == [0] * 4 + [1] * 4 + [0] * 4
    assert table["layer"].to_list() == [0, 0, 1, 1] * 3
    assert table["component"].to_list() == ["attention", "mlp"] * 6
    assert table["effect"].to_list() == [0, 0.5, 1, 1.5] + [0] * 8
    assert table["direct"].to_list() == [0, 1 / 8, 1 / 4, 3 / 8] + [0] * 8
    assert table["direct_total"].to_list() == [0.5] * 4 + [0] * 8
    assert table["undefined"].to_list() == [False] * 4 + [True] * 8
    assert table["patched_logit"].to_list() == [*range(8), *range(4, 8)]
    assert table["clean_logit"].to_list() == [2] * 4 + [4] * 8


def test_pairs_that_are_not_there() -> None:
    distinct = distinct_pairs(PAIRS_TABLE)
    with pytest.raises(StudyError, match=r"p\.parquet: held-out post 2 is not in 0\.\.1; remake"):
        pairs_of_posts(distinct, {"cars": 0, "pets": 1}, 2, Path("p.parquet"))
    with pytest.raises(StudyError, match=r"p\.parquet: the classifier has no label 'pets'"):
        pairs_of_posts(distinct, {"cars": 0}, 3, Path("p.parquet"))
