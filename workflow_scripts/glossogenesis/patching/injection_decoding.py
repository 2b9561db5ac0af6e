"""Greedy generation by the target model while features of the source model are injected.

What is injected at a token comes from the source model's residual stream at the same token, so
every new token runs through both models, each with its own cache of keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from glossogenesis.concepts.request import NO_TOKEN
from glossogenesis.injection.method import Method, Reading, Variant, change_of, changed_states
from glossogenesis.injection.perplexity import LayerInjection, TwoModels
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import changed_layer, read_layers
from glossogenesis.models.padding import PaddedBatch, pad_left
from glossogenesis.patching.answer_tokens import AnswerTokens
from glossogenesis.patching.answers import answer, is_stop
from glossogenesis.sae.autoencoder import SparseAutoencoder


@dataclass(frozen=True)
class Decoding:
    """How answers are generated."""

    tokens: AnswerTokens
    """Which end an answer, and at which, as they are no text, nothing is injected."""
    max_new_tokens: int
    skip_first: bool
    """Whether the first token of each prompt is left as it is, as autoencoders never saw such."""


@dataclass(frozen=True)
class Injected:
    """One variant at one layer and strength."""

    layer: int
    sae: SparseAutoencoder
    variant: Variant
    alpha: float


class PromptBatch:
    """Prompts that are answered several times; the source model reads them once."""

    def __init__(
        self,
        models: TwoModels,
        prompts: Sequence[Sequence[int]],
        injections: Sequence[LayerInjection],
        method: Method,
        decoding: Decoding,
    ) -> None:
        """Read prompts (token ids) with the source model, at the layers of `injections`."""
        self._models = models
        self._method = method
        self._decoding = decoding
        self._padded = pad_left(prompts, models.target.device)
        self._changed = self._changed_in_prompts()
        self._source_cache = DynamicCache(config=models.source.config)
        inputs = _inputs(models.source, self._padded, self._source_cache)
        layers = [injection.layer for injection in injections]
        with torch.inference_mode():
            streams = read_layers(models.source, inputs, layers)
        self._readings = {
            injection.layer: Reading.of(injection.sae, streams[injection.layer][self._changed])
            for injection in injections
        }

    @torch.inference_mode()
    def generate(self, injected: Injected | None) -> Tensor:
        """Answer greedily, with an injection or without.

        Returns:
            `[prompt, max_new_tokens]`, int64, -1 after a stop token, on the CPU.
        """
        target = self._models.target
        batch, changed = self._padded, self._changed
        target_cache = DynamicCache(config=target.config)
        source_cache = reading = None
        if injected is not None:
            source_cache = deepcopy(self._source_cache)
            reading = self._readings[injected.layer]
        steps = self._decoding.max_new_tokens
        generated = torch.full((len(changed), steps), NO_TOKEN, device=target.device)
        finished = torch.zeros(len(changed), dtype=torch.bool, device=target.device)
        for step in range(steps):
            tokens = self._next_tokens(batch, target_cache, injected, reading, changed)
            generated[:, step] = tokens.masked_fill(finished, NO_TOKEN)
            finished = finished | is_stop(tokens, self._decoding.tokens.stop_ids)
            if step + 1 == steps or bool(finished.all()):
                break
            batch = _next_column(batch, tokens)
            if injected is not None:
                changed = self._is_plain(tokens)[:, None]
                reading = self._read_source(injected, batch, source_cache, changed)
        return generated.cpu()

    def _next_tokens(
        self,
        batch: PaddedBatch,
        cache: DynamicCache,
        injected: Injected | None,
        reading: Reading | None,
        changed: Tensor,
    ) -> Tensor:
        """Run the target model over new columns; returns greedy tokens `[prompt]`."""
        target = self._models.target
        inputs = _inputs(target, batch, cache)
        if injected is None or reading is None:
            output = target.base(**inputs)
        else:
            source, method, sae = reading, self._method, injected.sae

            def change(states: Tensor) -> Tensor:
                own = Reading.of(sae, states[changed]) if method.reads_target else None
                added = change_of(injected.variant, injected.alpha, source, own, method, sae.w_dec)
                return changed_states(states, changed, added)

            with changed_layer(target, injected.layer, change):
                output = target.base(**inputs)
        nothing = torch.empty(len(changed), 0, dtype=torch.int64, device=target.device)
        return answer(target, output.last_hidden_state[:, -1], nothing, normed=True)[1]

    def _read_source(
        self, injected: Injected, batch: PaddedBatch, cache: Any, changed: Tensor
    ) -> Reading:
        """Run the source model over new columns, up to the layer."""
        source = self._models.source
        streams = read_layers(source, _inputs(source, batch, cache), [injected.layer])
        return Reading.of(injected.sae, streams[injected.layer][changed])

    def _changed_in_prompts(self) -> Tensor:
        """Where prompts are changed: bool `[prompt, column]`."""
        is_token = self._padded.mask == 1
        changed = is_token & self._is_plain(self._padded.token_ids)
        if self._decoding.skip_first:
            changed &= ~(is_token & (self._padded.position_ids == 0))
        if self._method.positions == "last":
            changed[:, :-1] = False
        return changed

    def _is_plain(self, tokens: Tensor) -> Tensor:
        """Which tokens are not special."""
        special = sorted(self._decoding.tokens.control_ids)
        return ~torch.isin(tokens, torch.tensor(special, dtype=torch.int64, device=tokens.device))


def _next_column(batch: PaddedBatch, tokens: Tensor) -> PaddedBatch:
    """The columns that a new token a prompt adds: its id and position, under the whole mask."""
    mask = torch.cat([batch.mask, torch.ones_like(batch.mask[:, :1])], dim=1)
    return PaddedBatch(tokens[:, None], mask, batch.position_ids[:, -1:] + 1)


def _inputs(anatomy: Anatomy, batch: PaddedBatch, cache: DynamicCache) -> dict[str, Any]:
    """Keyword arguments of a forward pass over new columns that extends `cache`."""
    return {**batch.model_inputs(anatomy), "past_key_values": cache, "use_cache": True}
