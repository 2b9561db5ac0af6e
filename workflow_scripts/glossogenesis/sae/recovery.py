"""Cross-entropy of a language model with an autoencoder's reconstruction in place of a layer.

After one clean pass of some contexts, the blocks above a layer run three more times: on the
reconstruction of its output, on zeros, and on the mean of its output. Only kept positions are
replaced; special tokens, the first token of a context (where the corpus drops it) and padding keep
their clean activation, as in SAELens. The mean is taken over all kept tokens of the same contexts.

What is measured is the prediction of the next token, in nats, at kept positions whose next token is
of the same document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glossogenesis.corpora.tokenised import BLOCK_TENSORS, ContextBlock, TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.batches import PredictedContexts, next_token_losses, predicted_contexts
from glossogenesis.models.blocks import BlockRunner
from glossogenesis.models.prefill import prefill
from glossogenesis.sae.autoencoder import SparseAutoencoder

Variant = Literal["spliced", "zero", "mean"]
VARIANTS: tuple[Variant, ...] = ("spliced", "zero", "mean")

BYTES_OF_AUTOENCODERS = 4_000_000_000
"""Autoencoders that are in memory at a time."""


@dataclass(frozen=True)
class CrossEntropies:
    """Sums of negative log-likelihoods, in nats, of every context."""

    tokens: Tensor
    """Predictions measured, int64 [context]."""
    languages: Tensor
    """Index into the corpus' languages, int64 [context]."""
    clean: Tensor
    """Of the model as it is, float64 [context]."""
    replaced: Mapping[int, Mapping[Variant, Tensor]]
    """Of the model with a layer replaced, float64 [context], by layer."""


def held_out_contexts(corpus: TokenisedCorpus, contexts: int) -> ContextBlock:
    """Return the first held-out contexts of every language, at most `contexts` of each.

    A context is of the language of its first token. StudyError where there is none.
    """
    found = [0] * len(corpus.languages)
    parts: list[dict[str, Tensor]] = []
    for block in corpus.blocks("held_out", 64):
        chosen = []
        for index, language in enumerate(block.languages[:, 0].tolist()):
            if language < len(found) and found[language] < contexts:
                found[language] += 1
                chosen.append(index)
        parts.append({name: getattr(block, name)[chosen] for name in BLOCK_TENSORS})
        if min(found) >= contexts:
            break
    if not sum(found):
        raise StudyError(
            f"{corpus.folder}: no held-out contexts; raise `held_out_tokens` of the corpus"
        )
    return ContextBlock(
        0, **{name: torch.cat([part[name] for part in parts]) for name in BLOCK_TENSORS}
    )


def layers_in_memory(n_latents: int, d_model: int) -> int:
    """How many layers' autoencoders of this size to hold at a time."""
    return max(1, BYTES_OF_AUTOENCODERS // (2 * 4 * n_latents * d_model))


@torch.inference_mode()
def measure_recovery(
    anatomy: Anatomy,
    block: ContextBlock,
    layers: Sequence[int],
    autoencoder_of: Callable[[int], SparseAutoencoder],
    *,
    batch_size: int,
    layers_at_once: int,
    on_batch: Callable[[int], object] | None = None,
) -> CrossEntropies:
    """Measure the clean model, and with each layer replaced in three ways.

    Args:
        anatomy: the model, with its head.
        block: the contexts.
        layers: whose outputs are replaced, one at a time.
        autoencoder_of: gives a layer's autoencoder; called once a layer.
        batch_size: contexts in one forward pass.
        layers_at_once: layers whose autoencoders are in memory at a time; each group of layers
            costs another clean pass.
        on_batch: called with how many contexts are done, `passes_of` times the contexts in all.

    Raises:
        StudyError: the model lacks a layer, or no prediction can be measured.
    """
    _check_layers(anatomy, layers)
    batches = list(predicted_contexts(block, "all", batch_size, anatomy.device))
    tokens = torch.zeros(len(block.kept), dtype=torch.int64)
    for batch in batches:
        tokens[batch.numbers] = batch.predicting.sum(dim=1).cpu()
    if not int(tokens.sum()):
        raise StudyError("no prediction can be measured: no kept token is followed by another")
    report = on_batch or (lambda n_contexts: None)
    runner = BlockRunner(anatomy)
    means = _mean_activations(runner, batches, layers, report)
    clean = torch.zeros(len(tokens), dtype=torch.float64)
    replaced = {layer: {name: torch.zeros_like(clean) for name in VARIANTS} for layer in layers}
    for start in range(0, len(layers), layers_at_once):
        group = {
            layer: autoencoder_of(layer).to(anatomy.device)
            for layer in layers[start : start + layers_at_once]
        }
        for batch in batches:
            run = prefill(runner, batch.padded, group, keep_contexts=False)
            clean[batch.numbers] = _sums(anatomy, run.output, batch)
            for layer, sae in group.items():
                for name, stream in _streams(run.streams[layer], batch.changed, sae, means[layer]):
                    sums = _sums(anatomy, run.resume(layer, stream), batch)
                    replaced[layer][name][batch.numbers] = sums
            report(len(batch))
    return CrossEntropies(tokens, block.languages[:, 0].long(), clean, replaced)


def passes_of(layers: int, layers_at_once: int) -> int:
    """How often `measure_recovery` reports each context: for the means, and for each group."""
    return 1 - (-layers // layers_at_once)


def _mean_activations(
    runner: BlockRunner,
    batches: Sequence[PredictedContexts],
    layers: Sequence[int],
    report: Callable[[int], object],
) -> dict[int, Tensor]:
    """Mean of each layer's output over kept tokens, float32 [d_model], summed in float64."""
    anatomy = runner.anatomy
    sums = {
        layer: torch.zeros(anatomy.d_model, dtype=torch.float64, device=anatomy.device)
        for layer in layers
    }
    count = 0
    for batch in batches:
        streams = prefill(runner, batch.padded, layers, keep_contexts=False).streams
        count += int(batch.changed.sum())
        for layer in layers:
            sums[layer] += streams[layer][batch.changed].double().sum(dim=0)
        report(len(batch))
    return {layer: (total / count).float() for layer, total in sums.items()}


def _streams(
    clean: Tensor, kept: Tensor, sae: SparseAutoencoder, mean: Tensor
) -> Iterator[tuple[Variant, Tensor]]:
    """The residual stream [context, position, d_model] of each variant, one at a time."""
    values: Mapping[Variant, Callable[[], Tensor]] = {
        "spliced": lambda: sae.reconstruct(clean[kept]),
        "zero": lambda: torch.zeros_like(mean),
        "mean": lambda: mean,
    }
    for name in VARIANTS:
        stream = clean.clone()
        stream[kept] = values[name]().to(stream.dtype)
        yield name, stream


def _sums(anatomy: Anatomy, output: Tensor, batch: PredictedContexts) -> Tensor:
    """Sum of the negative log-likelihoods of each context's predictions, float64 [context]."""
    losses = next_token_losses(anatomy, output, batch).double().cpu()
    contexts = batch.predicting.nonzero()[:, 0].cpu()
    return torch.zeros(len(batch), dtype=torch.float64).index_add_(0, contexts, losses)


def _check_layers(anatomy: Anatomy, layers: Sequence[int]) -> None:
    for layer in layers:
        if not 0 <= layer < anatomy.n_layers:
            raise StudyError(
                f"layer {layer}: the model has layers 0..{anatomy.n_layers - 1}; fix `layers`"
            )
