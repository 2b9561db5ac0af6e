"""Translations of the target model under every injection, as rows of `translation.parquet`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from glossogenesis.injection.method import Method
from glossogenesis.injection.perplexity import LayerInjection, LossKey, TwoModels
from glossogenesis.injection.tasks import TranslationTask
from glossogenesis.models.padding import batches_by_length
from glossogenesis.patching.injection_comet import Comet
from glossogenesis.patching.injection_decoding import Decoding, Injected, PromptBatch
from glossogenesis.patching.injection_rows import TRANSLATION_SCHEMA
from glossogenesis.patching.injection_scoring import Floats, Score, TranslationScorer
from glossogenesis.patching.injection_tables import (
    CONTROLS,
    Columns,
    Item,
    controls_of,
    items_of,
    plain_columns,
    pooled_controls,
)
from glossogenesis.progress import progress
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
