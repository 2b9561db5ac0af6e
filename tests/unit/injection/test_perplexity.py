"""Losses under injection: by a full pass of both models, and where the answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from glossogenesis.corpora.tokenised import ContextBlock
from glossogenesis.injection.method import (
    LatentGroups,
    Method,
    Reading,
    Variant,
    change_of,
    variants_of,
)
from glossogenesis.injection.perplexity import (
    LayerInjection,
    Losses,
    PerplexityRun,
    TwoModels,
    perplexity_table,
)
from glossogenesis.injection.tables import PERPLEXITY_SCHEMA
from glossogenesis.models.batches import predicted_contexts
from glossogenesis.models.capture import block_output
from glossogenesis.models.prefill import Prefill
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.recovery import held_out_contexts
from glossogenesis.statistics.intervals import Bootstrap
from support.tiny_corpus import tiny_corpus
from support.tiny_models import D_MODEL, EACH_ARCHITECTURE, tiny_anatomy
from support.tiny_saes import perfect_sae, random_sae

LAYER = 1
GROUP = Variant("en", "none", None, torch.arange(40))
ADDED = Method()


@pytest.fixture(scope="module", params=["padded", "packed"])
def block(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ContextBlock:
    folder = tmp_path_factory.mktemp("corpus")
    return held_out_contexts(tiny_corpus(folder, fill=request.param), 3)


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> ContextBlock:
    return held_out_contexts(tiny_corpus(tmp_path_factory.mktemp("padded")), 3)


def two_models(architecture: str = "llama") -> TwoModels:
    return TwoModels(tiny_anatomy(architecture, seed=1), tiny_anatomy(architecture, seed=0))


def losses_of(
    models: TwoModels,
    block: ContextBlock,
    sae: SparseAutoencoder,
    variants: list[Variant],
    *,
    method: Method = ADDED,
    alphas: tuple[float, ...] = (1.0,),
    batch_size: int = 4,
) -> Losses:
    run = PerplexityRun(models, block, method, n_languages=2, batch_size=batch_size)
    return run.losses([LayerInjection(LAYER, sae, variants)], alphas)


def by_full_passes(
    models: TwoModels, block: ContextBlock, sae: SparseAutoencoder, alpha: float
) -> Tensor:
    """Summed loss of each context, every context alone, without padding."""
    sums = []
    for ids, documents, kept in zip(block.token_ids, block.documents, block.kept, strict=True):
        n = int((documents >= 0).sum())
        tokens, kept = ids[None, :n].long(), kept[:n]
        held: list[Tensor] = []
        hook = models.source.blocks[LAYER].register_forward_hook(
            lambda module, inputs, output, held=held: held.append(block_output(output)[0])
        )
        source: Any = models.source.model
        source(tokens)
        hook.remove()
        added = change_of(GROUP, alpha, Reading.of(sae, held[0][kept]), None, Method(), sae.w_dec)

        def inject(module: Any, inputs: Any, output: Any, kept=kept, added=added) -> Any:
            states = block_output(output).clone()
            states[0, kept] += added
            return states if isinstance(output, Tensor) else (states, *output[1:])

        hook = models.target.blocks[LAYER].register_forward_hook(inject)
        target: Any = models.target.model
        log_p = target(tokens).logits[0].log_softmax(dim=-1)
        hook.remove()
        measured = [
            place
            for place in range(n - 1)
            if kept[place] and documents[place] == documents[place + 1]
        ]
        sums.append(sum(-log_p[place, tokens[0, place + 1]] for place in measured))
    return torch.tensor(sums)


@pytest.mark.parametrize("architecture", EACH_ARCHITECTURE)
def test_batches_padding_and_resuming_change_nothing(
    architecture: str, padded: ContextBlock
) -> None:
    models, sae = two_models(architecture), random_sae(D_MODEL, 64)
    losses = losses_of(models, padded, sae, [GROUP], alphas=(0.5, 2.0))
    for alpha in (0.5, 2.0):
        expected = by_full_passes(models, padded, sae, alpha)
        measured = losses.injected[LAYER, alpha, 0].sum(axis=1)
        np.testing.assert_allclose(measured, expected, rtol=1e-4)
    expected = by_full_passes(models, padded, sae, 0.0)
    np.testing.assert_allclose(losses.plain.sum(axis=1), expected, rtol=1e-4)


def test_sums_are_by_context_and_language(block: ContextBlock) -> None:
    losses = losses_of(two_models(), block, random_sae(D_MODEL, 64), [GROUP])
    language_of = block.languages[:, 0].numpy()
    rows = np.arange(len(language_of))
    measured = (block.kept[:, :-1] & (block.documents[:, 1:] == block.documents[:, :-1])).sum(1)
    np.testing.assert_array_equal(losses.tokens[rows, language_of], measured)
    assert not losses.tokens[rows, 1 - language_of].any()
    assert not losses.plain[rows, 1 - language_of].any()
    assert ((losses.plain[rows, language_of] > 0) == (measured.numpy() > 0)).all()


def test_weak_or_empty_injections_are_none(block: ContextBlock) -> None:
    nothing = Variant("ja", "none", None, torch.arange(0))
    sae = random_sae(D_MODEL, 64)
    losses = losses_of(two_models(), block, sae, [GROUP, nothing], alphas=(1e-7, 1.0))
    np.testing.assert_array_equal(losses.injected[LAYER, 1.0, 1], losses.plain)
    np.testing.assert_allclose(losses.injected[LAYER, 1e-7, 0], losses.plain, rtol=1e-5)
    assert not np.allclose(losses.injected[LAYER, 1.0, 0], losses.plain, rtol=1e-2)


@pytest.mark.parametrize("autoencoder", ["perfect", "random"])
def test_replacing_a_models_own_features_is_none(block: ContextBlock, autoencoder: str) -> None:
    anatomy = tiny_anatomy("llama")
    sae = perfect_sae(D_MODEL) if autoencoder == "perfect" else random_sae(D_MODEL, 64)
    everything = Variant("all", "none", None, torch.arange(64))
    losses = losses_of(
        TwoModels(anatomy, anatomy), block, sae, [everything], method=Method(mode="replace")
    )
    np.testing.assert_allclose(losses.injected[LAYER, 1.0, 0], losses.plain, rtol=1e-4)


def test_last_positions_are_the_last_that_predict(padded: ContextBlock) -> None:
    (batch,) = predicted_contexts(padded, "last", 64, torch.device("cpu"))
    lengths = (padded.documents >= 0).sum(dim=1)[batch.numbers]
    # The first token is not kept, so a context of two tokens predicts nothing.
    expected = [length - 2 for length in lengths.tolist() if length > 2]
    assert batch.predicting.nonzero()[:, 1].tolist() == expected
    assert torch.equal(batch.changed, batch.predicting)
    losses = losses_of(
        two_models(), padded, random_sae(D_MODEL, 64), [GROUP], method=Method(positions="last")
    )
    assert losses.tokens.sum() == len(expected)
    assert not np.allclose(losses.injected[LAYER, 1.0, 0], losses.plain, rtol=1e-2)


def test_a_model_that_resumes_wrongly_is_found_out(
    padded: ContextBlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Prefill, "resume", lambda read, *given: read.output.flip(-1))
    with pytest.raises(RuntimeError, match="above layer 1 differs"):
        losses_of(two_models(), padded, random_sae(D_MODEL, 64), [GROUP])


def test_a_fault_that_a_short_number_format_hides_is_found_in_float32(
    monkeypatch: pytest.MonkeyPatch, padded: ContextBlock
) -> None:
    models = two_models()
    models.target.model.to(torch.bfloat16)
    run = PerplexityRun(models, padded, ADDED, n_languages=2, batch_size=4)
    exact = run.check_in_float32([LAYER])
    assert exact.rows == 3
    assert exact.largest < 1e-3
    assert models.target.dtype == torch.bfloat16
    resume = Prefill.resume

    def slightly_wrong(*given: Any) -> Tensor:
        output = resume(*given)
        return output + 0.01 * output.flip(-1)

    monkeypatch.setattr(Prefill, "resume", slightly_wrong)
    with pytest.raises(RuntimeError, match="above layer 1 differs"):
        run.check_in_float32([LAYER])


@pytest.fixture(scope="module")
def measured(padded: ContextBlock) -> tuple[Losses, list[LayerInjection]]:
    """A group and an empty one, with two draws of each control, at two layers."""
    sae, models = random_sae(D_MODEL, 64), two_models()
    groups = LatentGroups({"en": torch.arange(9), "ru": torch.arange(0)}, alive=torch.arange(64))
    run = PerplexityRun(models, padded, Method(), n_languages=2, batch_size=4)
    injections = [
        run.matched(
            LayerInjection(
                layer, sae, variants_of(groups, d_model=D_MODEL, draws=2, seed=0, layer=layer)
            )
        )
        for layer in (0, 2)
    ]
    return run.losses(injections, [0.5, 1.0]), injections


def table_of(measured: tuple[Losses, list[LayerInjection]]) -> pl.DataFrame:
    return perplexity_table(
        *measured, alphas=[0.5, 1.0], languages=["en", "ru"], bootstrap=Bootstrap(200)
    )


def test_the_table_has_a_row_for_every_variant_and_language(measured: Any) -> None:
    table = table_of(measured)
    assert table.schema == PERPLEXITY_SCHEMA
    keys = ["layer", "language", "alpha", "group", "control", "draw"]
    assert table.select(keys).is_duplicated().sum() == 0
    assert table.height == 2 * 3 * (1 + 2 * (5 + 2 + 1))
    plain = table.filter(pl.col("group") == "none")
    assert plain["alpha"].to_list() == [0.0] * 6
    assert plain["difference"].null_count() == 6
    pooled = table.filter(layer=0, language="all", group="none").row(0, named=True)
    losses = measured[0]
    assert pooled["tokens"] == losses.tokens.sum()
    assert pooled["nll"] == pytest.approx(losses.plain.sum() / losses.tokens.sum())
    assert pooled["perplexity"] == pytest.approx(np.exp(pooled["nll"]))
    assert pooled["perplexity_low"] < pooled["perplexity"] < pooled["perplexity_high"]


def test_differences_are_to_no_injection_and_to_the_controls(measured: Any) -> None:
    rows = table_of(measured).filter(layer=2, language="ru", alpha=1.0, group="en")
    plain = table_of(measured).filter(layer=2, language="ru", group="none")["nll"].item()
    own = rows.filter(control="none").row(0, named=True)
    assert own["difference"] == pytest.approx(own["nll"] - plain)
    assert own["difference_low"] <= own["difference"] <= own["difference_high"]
    for control in ("random", "norm_matched"):
        drawn = rows.filter(pl.col("draw").is_not_null(), control=control)
        over = own["nll"] - drawn["nll"].mean()
        mean = rows.filter(pl.col("draw").is_null(), control=control).row(0, named=True)
        assert mean["nll"] == pytest.approx(drawn["nll"].mean())
        assert mean["difference"] == pytest.approx(drawn["difference"].mean())
        assert mean[f"over_{control}"] is None
        assert drawn["draw"].to_list() == [0, 1]
        assert own[f"over_{control}"] == pytest.approx(over)
        assert own[f"over_{control}_low"] <= over <= own[f"over_{control}_high"]
        assert drawn[f"over_{control}"].null_count() == 2
        assert drawn["mean_change"].to_list() == pytest.approx([own["mean_change"]] * 2, rel=1e-4)
    half = table_of(measured).filter(layer=2, alpha=0.5, group="en", control="none")
    assert half["mean_change"].to_list() == pytest.approx([own["mean_change"] / 2] * 3)


def test_the_draws_of_a_control_are_resampled_together(measured: Any) -> None:
    rows = table_of(measured).filter(layer=2, language="all", alpha=1.0, group="en")
    random = rows.filter(control="random").with_columns(
        width=pl.col("difference_high") - pl.col("difference_low")
    )
    (mean,) = random.filter(pl.col("draw").is_null())["width"]
    of_draws = random.drop_nulls("draw")["width"]
    # The mean of two draws is surer than they are on average, but for what they share.
    assert 0 < mean < of_draws.mean()


def test_an_empty_group_changes_nothing_and_has_no_controls(measured: Any) -> None:
    rows = table_of(measured).filter(group="ru")
    assert set(rows["control"]) == {"none"}
    assert set(rows["difference"]) == {0.0}
    assert set(rows["mean_change"]) == {0.0}
    assert rows["over_random"].null_count() == rows.height


def test_a_single_context_gives_no_interval(padded: ContextBlock, tmp_path: Path) -> None:
    block = held_out_contexts(tiny_corpus(tmp_path, held_out=1), 3)
    sae = random_sae(D_MODEL, 64)
    run = PerplexityRun(two_models(), block, Method(), n_languages=2, batch_size=4)
    injection = run.matched(LayerInjection(LAYER, sae, [GROUP]))
    table = perplexity_table(
        run.losses([injection], [1.0]), [injection], [1.0], ["en", "ru"], Bootstrap(200)
    )
    assert table["language"].unique(maintain_order=True).to_list() == ["en", "all"]
    assert table["perplexity_low"].null_count() == table.height


def test_the_first_token_of_a_document_is_not_predicted_from_another() -> None:
    shape = (1, 6)
    block = ContextBlock(
        0,
        token_ids=torch.arange(6, dtype=torch.int32)[None],
        documents=torch.tensor([[0, 0, 0, 1, 1, -1]], dtype=torch.int32),
        positions=torch.zeros(shape, dtype=torch.int32),
        languages=torch.tensor([[0, 0, 0, 1, 1, 255]], dtype=torch.uint8),
        token_languages=torch.full(shape, 255, dtype=torch.uint8),
        kept=torch.tensor([[False, True, True, True, True, False]]),
    )
    (batch,) = predicted_contexts(block, "all", 1, torch.device("cpu"))
    assert batch.predicting.tolist() == [[False, True, False, True, False]]
    assert batch.changed.tolist() == [[False, True, True, True, True]]
    (last,) = predicted_contexts(block, "last", 1, torch.device("cpu"))
    assert last.changed.tolist() == [[False, False, False, True, False]]
