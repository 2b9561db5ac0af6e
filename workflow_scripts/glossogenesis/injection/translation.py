"""Translations of the target model under every injection, as rows of `translation.parquet`.

What is injected at a token comes from the source model's residual stream at the same token, so
every new token runs through both models, each with its own cache of keys and values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from transformers import DynamicCache

from glossogenesis.concepts.request import NO_TOKEN
from glossogenesis.corpora.control_tokens import AnswerTokens
from glossogenesis.injection.method import Method, Reading, Variant, change_of, changed_states
from glossogenesis.injection.perplexity import (
    CONTROLS,
    Columns,
    Item,
    LayerInjection,
    LossKey,
    TwoModels,
    controls_of,
    items_of,
    plain_columns,
    pooled_controls,
)
from glossogenesis.injection.tables import TRANSLATION_SCHEMA
from glossogenesis.injection.tasks import Comet, Floats, Score, TranslationScorer, TranslationTask
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.batches import PaddedBatch, batches_by_length, pad_left
from glossogenesis.models.capture import answer, changed_layer, is_stop, read_layers
from glossogenesis.progress import progress
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.statistics.intervals import Bootstrap, tails


@dataclass(frozen=True)
class Answers:
    """What the target model answered to one task, an answer a prompt."""

    plain: list[str]
    injected: Mapping[LossKey, list[str]]
    """By layer, strength and number of the variant."""


def translate(
    models: TwoModels,
    tasks: Sequence[TranslationTask],
    injections: Sequence[LayerInjection],
    alphas: Sequence[float],
    method: Method,
    decoding: Decoding,
    batch_size: int,
) -> list[Answers]:
    """Answer every task without injection and under every one, `batch_size` prompts at a time."""
    items = [item for item in items_of(injections, alphas) if len(item.variant.latents)]
    batches = [
        list(batches_by_length([len(prompt) for prompt in task.prompts], batch_size))
        for task in tasks
    ]
    total = sum(len(of_task) for of_task in batches) * (len(items) + 1)
    bar = progress(total=total, label="translation", unit="batch")
    answers = []
    for task, of_task in zip(tasks, batches, strict=True):
        texts: dict[LossKey | None, list[str]] = {
            key: [""] * len(task.prompts) for key in [None, *map(_key, items)]
        }
        for batch in of_task:
            prompts = [task.prompts[index] for index in batch]
            prompt_batch = PromptBatch(models, prompts, injections, method, decoding)
            runs: list[tuple[LossKey | None, Injected | None]] = [(None, None)]
            runs += [(_key(item), _injected(item, injections)) for item in items]
            for key, injected in runs:
                tokens = prompt_batch.generate(injected).tolist()
                for index, row in zip(batch, tokens, strict=True):
                    texts[key][index] = task.answer(row, decoding.tokens)
                bar.update()
        plain = texts.pop(None)
        answers.append(Answers(plain, {key: text for key, text in texts.items() if key}))
    bar.close()
    return answers


def translation_table(
    tasks: Sequence[TranslationTask],
    answers: Sequence[Answers],
    injections: Sequence[LayerInjection],
    alphas: Sequence[float],
    bootstrap: Bootstrap,
    comet: Comet | None,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Rows of `TRANSLATION_SCHEMA`, with intervals over resampled sentences.

    Returns:
        The rows, and sacrebleu's signature of each metric and pair.
    """
    items = items_of(injections, alphas)
    rows: list[Columns] = []
    signatures: dict[str, str] = {}
    for task, of_task in zip(tasks, answers, strict=True):
        pair = "-".join(task.pair)
        scorer = TranslationScorer(task, bootstrap, comet)
        plain = scorer.scores(of_task.plain)
        scored = {
            _key(item): scorer.scores(of_task.injected.get(_key(item), of_task.plain))
            for item in progress(items, label=f"scoring {pair}", unit="score")
        }
        signatures |= {f"{pair} {name}": text for name, text in scorer.signatures.items()}
        for metric, score in plain.items():
            facts: Columns = {
                "input_language": task.pair[0],
                "output_language": task.pair[1],
                "metric": metric,
                "sentences": len(task.prompts),
            }
            of_metric = {key: scores[metric] for key, scores in scored.items()}
            for injection in injections:
                of_layer = [item for item in items if item.layer == injection.layer]
                key = plain_columns(injection.layer)
                rows.append({**key, **facts, **_value(score, bootstrap)})
                for item in of_layer:
                    compared = _compared(item, of_layer, of_metric, score, bootstrap)
                    own = _value(of_metric[_key(item)], bootstrap)
                    rows.append({**item.columns, **facts, **own, **compared})
                for pooled, drawn in pooled_controls(of_layer):
                    mean = _mean([of_metric[_key(other)] for other in drawn])
                    compared = _difference("difference", mean, [score], bootstrap)
                    rows.append({**pooled, **facts, **_value(mean, bootstrap), **compared})
    table = pl.DataFrame(
        [{name: row.get(name) for name in TRANSLATION_SCHEMA} for row in rows],
        schema=TRANSLATION_SCHEMA,
        orient="row",
    )
    return table.with_columns(pl.selectors.float().fill_nan(None)), signatures


def _key(item: Item) -> LossKey:
    return item.layer, item.alpha, item.number


def _injected(item: Item, injections: Sequence[LayerInjection]) -> Injected:
    sae = next(injection.sae for injection in injections if injection.layer == item.layer)
    return Injected(item.layer, sae, item.variant, item.alpha)


def _value(score: Score, bootstrap: Bootstrap) -> Columns:
    low, high = _ends(score.resampled, score.sentences, bootstrap)
    return {"value": score.value, "low": low, "high": high}


def _compared(
    item: Item,
    items: Sequence[Item],
    scores: Mapping[LossKey, Score],
    plain: Score,
    bootstrap: Bootstrap,
) -> Columns:
    """Differences to no injection and to the mean of each control's draws."""
    own = scores[_key(item)]
    columns = _difference("difference", own, [plain], bootstrap)
    for control in CONTROLS:
        draws = [scores[_key(other)] for other in controls_of(item, items, control)]
        if draws:
            columns |= _difference(f"over_{control}", own, draws, bootstrap)
    return columns


def _mean(scores: Sequence[Score]) -> Score:
    """Mean of scores of the same sentences, resampled together."""
    return Score(
        float(np.mean([score.value for score in scores])),
        np.mean([score.resampled for score in scores], axis=0),
        scores[0].sentences,
    )


def _difference(name: str, own: Score, others: Sequence[Score], bootstrap: Bootstrap) -> Columns:
    other = _mean(others)
    value = own.value - other.value
    low, high = _ends(own.resampled - other.resampled, own.sentences, bootstrap)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _ends(resampled: Floats, sentences: int, bootstrap: Bootstrap) -> tuple[float, float]:
    low, high = np.quantile(resampled, tails(max(sentences, 2), bootstrap.confidence))
    return float(low), float(high)


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
