"""Cross-entropy with a layer replaced, against hooks on the whole model and against identities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from glossogenesis.corpora.tokenised import BLOCK_TENSORS, ContextBlock
from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.batches import padded_on_the_right
from glossogenesis.models.blocks import BlockRunner
from glossogenesis.models.capture import block_output, read_layers
from glossogenesis.models.prefill import prefill
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.recovery import (
    CrossEntropies,
    held_out_contexts,
    layers_in_memory,
    measure_recovery,
    passes_of,
)
from glossogenesis.sae.tables import RECOVERY_SCHEMA, Resampling, recovery_table
from support.tiny_models import D_MODEL, EACH_ARCHITECTURE, random_tokens, tiny_anatomy

LENGTHS = [12, 7, 12, 9]
CONTEXT = 12
LAYERS = [0, 2, 3]


def contexts_of(lengths: list[int]) -> ContextBlock:
    """Contexts padded on the right, two languages in turn; the first token is not kept.

    In the first context, another document begins at position 5.
    """
    shape = (len(lengths), CONTEXT)
    tensors = {
        "token_ids": torch.zeros(shape, dtype=torch.int32),
        "documents": torch.full(shape, -1, dtype=torch.int32),
        "positions": torch.zeros(shape, dtype=torch.int32),
        "languages": torch.full(shape, 255, dtype=torch.uint8),
        "token_languages": torch.full(shape, 255, dtype=torch.uint8),
        "kept": torch.zeros(shape, dtype=torch.bool),
    }
    for index, ids in enumerate(random_tokens(lengths)):
        tensors["token_ids"][index, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
        tensors["documents"][index, : len(ids)] = 10 * index
        tensors["languages"][index, : len(ids)] = index % 2
        tensors["kept"][index, 1 : len(ids)] = True
    tensors["documents"][0, 5:] += 1
    return ContextBlock(0, **tensors)


def perfect() -> SparseAutoencoder:
    """relu(x) - relu(-x) = x."""
    sae = SparseAutoencoder(D_MODEL, 2 * D_MODEL, "relu", normalise="none")
    both = torch.cat([torch.eye(D_MODEL), -torch.eye(D_MODEL)])
    sae.w_enc.copy_(both)
    sae.w_dec.copy_(both)
    return sae


def zero() -> SparseAutoencoder:
    return SparseAutoencoder(D_MODEL, 8, "topk", k=2, normalise="l2")


def noisy() -> SparseAutoencoder:
    sae = SparseAutoencoder(D_MODEL, 48, "topk", k=6, normalise="l2")
    generator = torch.Generator().manual_seed(0)
    for weight in (sae.w_enc, sae.w_dec, sae.b_dec):
        weight.copy_(torch.randn(weight.shape, generator=generator) / 6)
    return sae


def measure(anatomy: Anatomy, sae: SparseAutoencoder, **changes: Any) -> CrossEntropies:
    options = {"batch_size": 3, "layers_at_once": 2} | changes
    return measure_recovery(anatomy, contexts_of(LENGTHS), LAYERS, lambda layer: sae, **options)


def reference_nll(
    anatomy: Anatomy, block: ContextBlock, layer: int | None, replace: Any
) -> list[float]:
    """One context at a time, unpadded, through the whole model with a hook on one block."""
    totals = []
    for index, length in enumerate(LENGTHS):
        ids = block.token_ids[index : index + 1, :length].long()
        kept = block.kept[index, :length]

        def overwrite(module: Any, inputs: Any, output: Any, kept: Tensor = kept) -> Any:
            states = block_output(output)
            states[0, kept] = replace(states[0, kept])
            return output

        handle = None
        if layer is not None:
            handle = anatomy.blocks[layer].register_forward_hook(overwrite)
        logits = anatomy.model(ids).logits[0]
        if handle is not None:
            handle.remove()
        log_probabilities = logits.log_softmax(dim=-1)
        total = 0.0
        for position in range(length - 1):
            same = block.documents[index, position] == block.documents[index, position + 1]
            if kept[position] and same:
                total -= float(log_probabilities[position, ids[0, position + 1]])
        totals.append(total)
    return totals


@pytest.fixture(params=EACH_ARCHITECTURE)
def anatomy(request: pytest.FixtureRequest) -> Anatomy:
    return tiny_anatomy(request.param)


def test_continuing_from_the_clean_stream_changes_nothing(anatomy: Anatomy) -> None:
    block = contexts_of(LENGTHS)
    mask = block.documents >= 0
    padded = padded_on_the_right(block.token_ids.long(), mask.sum(dim=1))
    clean = prefill(BlockRunner(anatomy), padded, range(anatomy.n_layers), keep_contexts=False)
    with torch.inference_mode():
        normed = anatomy.base(**padded.model_inputs(anatomy)).last_hidden_state[mask]
    torch.testing.assert_close(anatomy.final_norm(clean.output)[mask], normed)
    calls: list[int] = []
    handles = [
        module.register_forward_hook(lambda *_, layer=layer: calls.append(layer))
        for layer, module in enumerate(anatomy.mlp_outputs)
    ]
    for layer in range(anatomy.n_layers):
        resumed = clean.resume(layer, clean.streams[layer])
        assert torch.equal(resumed[mask], clean.output[mask])
    for handle in handles:
        handle.remove()
    assert calls == [1, 2, 3, 2, 3, 3]


def test_equals_hooks_on_the_whole_model(anatomy: Anatomy) -> None:
    block, sae = contexts_of(LENGTHS), noisy()
    measured = measure(anatomy, sae)
    clean = reference_nll(anatomy, block, None, None)
    torch.testing.assert_close(measured.clean, torch.tensor(clean).double(), rtol=1e-5, atol=1e-5)
    assert measured.tokens.tolist() == [9, 5, 10, 7]
    for layer in LAYERS:
        streams = []
        for index, length in enumerate(LENGTHS):
            ids = block.token_ids[index : index + 1, :length].long()
            stream = read_layers(anatomy, {"input_ids": ids}, [layer])[layer]
            streams.append(stream[0, block.kept[index, :length]])
        mean = torch.cat(streams).mean(dim=0)
        replacements = {
            "spliced": sae.reconstruct,
            "zero": torch.zeros_like,
            "mean": mean.expand_as,
        }
        for name, replace in replacements.items():
            expected = reference_nll(anatomy, block, layer, replace)
            torch.testing.assert_close(
                measured.replaced[layer][name],
                torch.tensor(expected).double(),
                rtol=1e-5,
                atol=1e-4,
            )


def test_a_perfect_autoencoder_recovers_all(anatomy: Anatomy) -> None:
    measured = measure(anatomy, perfect())
    for layer in LAYERS:
        torch.testing.assert_close(measured.replaced[layer]["spliced"], measured.clean)
    table = recovery_table(measured, ("en", "ja"), "mean", Resampling(100, seed=0))
    assert table["language"].to_list() == ["en", "ja", "all"] * len(LAYERS)
    for column in ("recovered_zero", "recovered_mean", "recovered", "recovered_low"):
        assert table[column].to_numpy() == pytest.approx(1, abs=1e-4)


def test_an_empty_autoencoder_is_zero_ablation(anatomy: Anatomy) -> None:
    measured = measure(anatomy, zero())
    for layer in LAYERS:
        assert torch.equal(measured.replaced[layer]["spliced"], measured.replaced[layer]["zero"])
    table = recovery_table(measured, ("en", "ja"), "zero", Resampling(100, seed=0))
    assert table["recovered"].to_list() == [0.0] * table.height


def test_batches_and_groups_of_layers_do_not_matter() -> None:
    anatomy = tiny_anatomy("llama")
    reports: list[int] = []
    one = measure(anatomy, noisy(), batch_size=1, layers_at_once=1, on_batch=reports.append)
    other = measure(anatomy, noisy(), batch_size=4, layers_at_once=3)
    torch.testing.assert_close(one.clean, other.clean)
    for layer in LAYERS:
        for name, of_context in one.replaced[layer].items():
            torch.testing.assert_close(
                of_context, other.replaced[layer][name], rtol=1e-5, atol=1e-5
            )
    assert sum(reports) == len(LENGTHS) * passes_of(len(LAYERS), 1)
    assert passes_of(5, 2) == 4
    assert layers_in_memory(32768, 3072) == 4


def test_table_pools_tokens_and_resamples_contexts() -> None:
    """Twelve contexts of one language, four of another, and known sums."""
    languages = torch.tensor([0] * 12 + [1] * 4)
    generator = torch.Generator().manual_seed(0)
    clean = 10 + torch.rand(16, generator=generator, dtype=torch.float64)
    spliced = clean + 1 + languages + torch.rand(16, generator=generator, dtype=torch.float64)
    measured = CrossEntropies(
        tokens=torch.full((16,), 5),
        languages=languages,
        clean=clean,
        replaced={3: {"spliced": spliced, "zero": clean + 8, "mean": clean + 4}},
    )
    table = recovery_table(measured, ("en", "ja", "ru"), "mean", Resampling(500, seed=1))
    assert table.schema == RECOVERY_SCHEMA
    assert table["language"].to_list() == ["en", "ja", "all"]
    assert table["contexts"].to_list() == [12, 4, 16]
    assert table["tokens"].to_list() == [60, 20, 80]
    row = table.row(2, named=True)
    assert row["ce_clean"] == pytest.approx(float(clean.sum()) / 80)
    damage = float((spliced - clean).mean())
    assert row["recovered_zero"] == pytest.approx(1 - damage / 8)
    assert row["recovered_mean"] == row["recovered"] == pytest.approx(1 - damage / 4)
    for row in table.iter_rows(named=True):
        assert row["recovered_low"] < row["recovered"] < row["recovered_high"]
    # Drawn within each language, so the difference between languages does not widen it.
    width = table["recovered_high"] - table["recovered_low"]
    assert width[2] < width[1]
    again = recovery_table(measured, ("en", "ja", "ru"), "mean", Resampling(500, seed=1))
    assert again.equals(table)


def test_without_effect_or_with_one_context_there_is_no_ratio_or_interval() -> None:
    sums = torch.tensor([4.0, 6.0], dtype=torch.float64)
    measured = CrossEntropies(
        tokens=torch.tensor([2, 3]),
        languages=torch.tensor([0, 1]),
        clean=sums,
        replaced={0: {"spliced": sums + 1, "zero": sums, "mean": sums + 2}},
    )
    table = recovery_table(measured, ("en", "ja"), "zero", Resampling(10, seed=0))
    assert table["recovered"].to_list() == [None, None, None]
    table = recovery_table(measured, ("en", "ja"), "mean", Resampling(10, seed=0))
    assert table["recovered"].to_list() == pytest.approx([0.5, 0.5, 0.5])
    assert table["recovered_low"].to_list() == [None, None, None]


class _Corpus:
    """Stands in for a corpus: the blocks alone."""

    languages = ("en", "ja")
    folder = "corpus"

    def __init__(self, blocks: list[ContextBlock]) -> None:
        self._blocks = blocks
        self.read = 0

    def blocks(self, split: str, contexts: int) -> Iterator[ContextBlock]:
        assert split == "held_out"
        for block in self._blocks:
            self.read += 1
            yield block


def test_first_contexts_of_every_language() -> None:
    blocks = [contexts_of(LENGTHS) for _ in range(3)]
    corpus: Any = _Corpus(blocks)
    chosen = held_out_contexts(corpus, 3)
    assert corpus.read == 2
    assert chosen.languages[:, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert len(held_out_contexts(corpus, 100).kept) == 12
    nothing: Any = _Corpus([])
    with pytest.raises(StudyError, match="no held-out contexts"):
        held_out_contexts(nothing, 3)


def test_bad_input() -> None:
    anatomy = tiny_anatomy("llama")
    with pytest.raises(StudyError, match=r"layer 4: the model has layers 0\.\.3"):
        measure_recovery(
            anatomy,
            contexts_of(LENGTHS),
            [4],
            lambda layer: zero(),
            batch_size=1,
            layers_at_once=1,
        )
    block = contexts_of(LENGTHS)
    silent = {name: getattr(block, name) for name in BLOCK_TENSORS}
    silent["kept"] = torch.zeros_like(block.kept)
    with pytest.raises(StudyError, match="no prediction can be measured"):
        measure_recovery(
            anatomy,
            ContextBlock(0, **silent),
            [0],
            lambda layer: zero(),
            batch_size=1,
            layers_at_once=1,
        )
