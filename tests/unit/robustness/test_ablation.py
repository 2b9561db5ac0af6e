"""Ablations of circuits: a classifier in which one component decides, and what always holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.robustness import ablation
from glossogenesis.robustness.ablation import (
    ABLATIONS_SCHEMA,
    AblationRules,
    ablation_table,
    check_in_float32,
    mean_outputs,
)
from glossogenesis.robustness.circuit import Circuit
from glossogenesis.robustness.components.fast import capture_components, run_components
from glossogenesis.robustness.components.rows import ComponentRows, ComponentValues, Outputs
from glossogenesis.robustness.tokenised_posts import LabelledPosts
from support.tiny_classifiers import N_LABELS, tiny_classifier
from support.tiny_models import random_tokens

N_LAYERS = 4
DECIDING = (1, 0)
"""The one component that does anything in `planted`: attention of layer 1."""

LAST_TOKEN = 11

RULES = AblationRules(
    methods=("mean", "zero", "resample"),
    positions=("last",),
    reference_posts=20,
    outputs="added",
    seed=0,
    batch_size=8,
)


def random_posts(number: int, *, seed: int) -> list[list[int]]:
    """Random posts that all end on one token, whose embedding can tell nothing of them."""
    lengths = np.random.default_rng(seed).integers(1, 9, number).tolist()
    return [[*ids, LAST_TOKEN] for ids in random_tokens(lengths, seed=seed)]


TRAIN, HELD_OUT = random_posts(30, seed=1), random_posts(23, seed=2)


def planted() -> Anatomy:
    """A Llama whose components give nothing, but for the attention of one layer."""
    anatomy = tiny_classifier("llama")
    for layer in range(N_LAYERS):
        for component, modules in enumerate((anatomy.attention_outputs, anatomy.mlp_outputs)):
            if (layer, component) != DECIDING:
                weight: Any = modules[layer].weight
                weight.data.zero_()
    return anatomy


def logits_of(anatomy: Anatomy, posts: list[list[int]]) -> Tensor:
    """Logits `[post, label]` by the plain model."""
    return torch.cat([anatomy.model(torch.tensor([ids])).logits for ids in posts])


def labelled(anatomy: Anatomy, *, wrong: int = 4) -> LabelledPosts:
    """Held-out posts with the labels that the classifier gives, but for the first `wrong`."""
    predicted = logits_of(anatomy, HELD_OUT).argmax(dim=1).tolist()
    labels = [(label + 1) % N_LABELS for label in predicted[:wrong]] + predicted[wrong:]
    return LabelledPosts(HELD_OUT, labels)


def circuit(*components: tuple[int, int], kind: Any = "effect", name: str = "own") -> Circuit:
    members = np.zeros((N_LAYERS, 2), dtype=bool)
    for component in components:
        members[component] = True
    return Circuit(name, 0.25, kind, 0, members)


EVERYTHING = [(layer, component) for layer in range(N_LAYERS) for component in range(2)]


def counts(table: pl.DataFrame, **where: str) -> dict[str, int]:
    """The counts of the one row in which columns have given values."""
    (row,) = table.filter(pl.all_horizontal(pl.col(key) == value for key, value in where.items()))[
        ["n", "correct", "correct_full", "lost", "gained"]
    ].iter_rows(named=True)
    return row


def test_the_component_that_decides_is_sufficient_and_necessary() -> None:
    anatomy = planted()
    posts = labelled(anatomy)
    rules = replace(RULES, positions=("last", "all"))
    table = ablation_table(anatomy, [circuit(DECIDING)], TRAIN, posts, rules)
    assert table.schema == ABLATIONS_SCHEMA
    assert table.height == 2 * 3 * 2
    labels = Counter(posts.label_ids)
    stands_alone: Any = anatomy.embedding(torch.tensor(LAST_TOKEN))
    for positions in ("last", "all"):
        # Without its only component the classifier gives one answer to all posts.
        mean = mean_of_attention(anatomy, slice(-1, None) if positions == "last" else slice(None))
        constant = {
            "zero": int(anatomy.logits(stands_alone).argmax()),
            "mean": int(anatomy.logits(stands_alone + mean).argmax()),
        }
        for method in ("mean", "zero", "resample"):
            where = {"method": method, "positions": positions}
            alone = counts(table, measure="sufficiency", **where)
            assert alone == {"n": 23, "correct": 19, "correct_full": 19, "lost": 0, "gained": 0}
        for method, answer in constant.items():
            without = counts(table, measure="necessity", method=method, positions=positions)
            assert without["correct"] == labels[answer]
            assert without["correct"] == 19 - without["lost"] + without["gained"]


def mean_of_attention(anatomy: Anatomy, positions: slice) -> Tensor:
    """Mean output of the deciding component over the training posts that means are taken over."""
    seen: list[Tensor] = []
    module: Any = anatomy.attention_outputs[DECIDING[0]]
    handle = module.register_forward_hook(lambda _, __, output: seen.append(output[0, positions]))
    logits_of(anatomy, TRAIN)
    handle.remove()
    chosen = np.random.default_rng([0, 1]).choice(len(TRAIN), 20, replace=False)
    return torch.cat([seen[post] for post in chosen]).mean(dim=0)


def test_a_component_that_does_nothing_is_neither() -> None:
    anatomy = planted()
    table = ablation_table(anatomy, [circuit((2, 1))], TRAIN, labelled(anatomy), RULES)
    for method in RULES.methods:
        assert counts(table, measure="necessity", method=method)["correct"] == 19
    assert counts(table, measure="sufficiency", method="zero")["lost"] > 0


@pytest.mark.parametrize("architecture", ["llama", "olmo2", "gpt_neox"])
def test_identities(architecture: str) -> None:
    """The whole network is sufficient; all of it or nothing are each other's complement."""
    anatomy = tiny_classifier(architecture)
    circuits = [circuit(*EVERYTHING, kind="all"), circuit(kind="none")]
    table = ablation_table(anatomy, circuits, TRAIN, labelled(anatomy), RULES)
    kept = {"n": 23, "correct": 19, "correct_full": 19, "lost": 0, "gained": 0}
    for method in RULES.methods:
        assert counts(table, circuit="all", measure="sufficiency", method=method) == kept
        assert counts(table, circuit="none", measure="necessity", method=method) == kept
        ablated = counts(table, circuit="all", measure="necessity", method=method)
        assert ablated == counts(table, circuit="none", measure="sufficiency", method=method)
        assert ablated["lost"] > 0
    assert dict(zip(table["circuit"], table["size"], strict=True)) == {"all": 8, "none": 0}


def test_a_run_in_which_nothing_changes_something_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shifted(*given: Any, **options: Any) -> Tensor:
        return run_components(*given, **options) + 0.1

    anatomy = planted()
    monkeypatch.setattr(ablation, "run_components", shifted)
    with pytest.raises(RuntimeError, match=r"ablating no component changes a logit by 0.1"):
        ablation_table(anatomy, [circuit(kind="none")], TRAIN, labelled(anatomy), RULES)
    with pytest.raises(RuntimeError, match=r"ablating no component changes a logit by 0.1"):
        check_in_float32(anatomy, labelled(anatomy), RULES)


def test_a_sample_is_checked_in_float32() -> None:
    anatomy = tiny_classifier("llama")
    posts = labelled(anatomy)
    anatomy.model.to(torch.bfloat16)
    found = check_in_float32(anatomy, posts, RULES)
    assert found.rows == 4
    assert found.largest < 1e-4
    assert anatomy.dtype == torch.bfloat16


def test_another_post_stands_in_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each post is the source of one other; all its outputs make the other its equal."""
    anatomy = tiny_classifier("llama")
    sources: dict[int, int] = {}
    captured, logits = capture_components(anatomy, HELD_OUT, batch_size=8)

    def remembered(
        anatomy: Anatomy,
        token_ids: list[list[int]],
        rows: ComponentRows,
        values: ComponentValues,
        **options: Any,
    ) -> Tensor:
        found = run_components(anatomy, token_ids, rows, values, **options)
        for row in rows.replaced.all(dim=(1, 2)).nonzero()[:, 0].tolist():
            post = HELD_OUT.index(token_ids[int(rows.prompts[row])])
            outputs = values.outputs[rows.sources[row]]
            distance = (captured.outputs - outputs).abs().amax(dim=(1, 2, 3))
            assert distance.min() < 1e-5
            sources[post] = int(distance.argmin())
            # The embedding of the last token is the same in all posts.
            torch.testing.assert_close(found[row], logits[sources[post]], rtol=1e-4, atol=1e-4)
        return found

    monkeypatch.setattr(ablation, "run_components", remembered)
    monkeypatch.setattr(ablation, "POSTS_AT_ONCE", 5)
    rules = replace(RULES, methods=("resample",))
    posts = labelled(anatomy)
    table = ablation_table(anatomy, [circuit(*EVERYTHING)], TRAIN, posts, rules)
    assert sorted(sources) == sorted(sources.values()) == list(range(len(HELD_OUT)))
    assert all(post != source for post, source in sources.items())
    predicted = logits.argmax(dim=1).tolist()
    agree = [predicted[source] == posts.label_ids[post] for post, source in sources.items()]
    assert counts(table, measure="necessity")["correct"] == sum(agree)


def test_blocks_of_posts_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    anatomy = tiny_classifier("llama")
    circuits = [circuit((0, 1), (2, 0)), circuit((3, 1), (1, 1), kind="random")]
    whole = ablation_table(anatomy, circuits, TRAIN, labelled(anatomy), RULES)
    finished: list[float] = []
    monkeypatch.setattr(ablation, "POSTS_AT_ONCE", 4)
    parts = ablation_table(anatomy, circuits, TRAIN, labelled(anatomy), RULES, finished.append)
    assert whole.equals(parts)
    assert sum(finished) == pytest.approx(len(HELD_OUT))
    other = ablation_table(anatomy, circuits, TRAIN, labelled(anatomy), replace(RULES, seed=1))
    assert not whole.equals(other)


def test_what_has_the_same_effect_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_run: list[int] = []

    def counted(
        anatomy: Anatomy, token_ids: Any, rows: ComponentRows, *given: Any, **o: Any
    ) -> Any:
        rows_run.append(len(rows))
        return run_components(anatomy, token_ids, rows, *given, **o)

    monkeypatch.setattr(ablation, "run_components", counted)
    anatomy = planted()
    some, rest = EVERYTHING[:3], EVERYTHING[3:]
    circuits = [
        circuit(*some),
        circuit(*some, name="common"),
        circuit(*rest, kind="random"),
        circuit(*EVERYTHING, kind="all"),
        circuit(kind="none"),
    ]
    table = ablation_table(anatomy, circuits, TRAIN, labelled(anatomy), RULES)
    assert table.height == 5 * 2 * 3
    # Three parts by three methods, and once nothing.
    assert sum(rows_run) == len(HELD_OUT) * (3 * 3 + 1)
    assert table.filter(set="own", circuit="effect")["correct"].equals(
        table.filter(set="common", circuit="effect")["correct"]
    )


def test_means_are_over_training_posts_drawn_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    anatomy = tiny_classifier("llama")
    every = capture_components(anatomy, TRAIN, batch_size=8)[0].outputs.double().mean(dim=0)
    monkeypatch.setattr(ablation, "POSTS_AT_ONCE", 7)
    all_posts = mean_outputs(anatomy, TRAIN, replace(RULES, reference_posts=100))
    torch.testing.assert_close(all_posts, every, rtol=1e-5, atol=1e-6)
    some = [mean_outputs(anatomy, TRAIN, replace(RULES, seed=seed)) for seed in (0, 0, 1)]
    assert torch.equal(some[0], some[1])
    assert not torch.allclose(some[0], some[2], atol=1e-3)
    assert not torch.allclose(some[0], every, atol=1e-3)


@pytest.mark.parametrize("outputs", ["added", "before_norm"])
def test_means_at_all_positions_are_over_all_tokens(outputs: Outputs) -> None:
    """Every token is the last of the post that ends on it."""
    anatomy = tiny_classifier("gemma2")
    posts = TRAIN[:5]
    beginnings = [ids[:end] for ids in posts for end in range(1, len(ids) + 1)]
    captured, _ = capture_components(anatomy, beginnings, outputs=outputs, batch_size=8)
    rules = replace(RULES, outputs=outputs, reference_posts=100, batch_size=2)
    found = mean_outputs(anatomy, posts, rules, "all")
    expected = captured.outputs.double().mean(dim=0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, mean_outputs(anatomy, posts, rules), atol=1e-2)


def test_one_post_has_no_other() -> None:
    one = LabelledPosts(HELD_OUT[:1], [0])
    with pytest.raises(ValueError, match="outputs for another need two"):
        ablation_table(planted(), [circuit(DECIDING)], TRAIN, one, RULES)
    rules = replace(RULES, methods=("mean",))
    assert ablation_table(planted(), [circuit(DECIDING)], TRAIN, one, rules)["n"].to_list() == [
        1,
        1,
    ]


def test_without_circuits_there_is_nothing_to_run() -> None:
    table = ablation_table(planted(), [], TRAIN, LabelledPosts(HELD_OUT, [0] * 23), RULES)
    assert table.equals(pl.DataFrame(schema=ABLATIONS_SCHEMA))
