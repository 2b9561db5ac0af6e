"""Scores of translations, with resamples of the sentences that all injections share.

BLEU and chrF are sacrebleu's, of the corpus. BLEU of sentences counts n-grams up to 4, of words
alone up to 1, since a word has no longer ones. Text without spaces between words is cut into
characters, other text by sacrebleu's tokenizer `13a`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from glossogenesis.concepts.scoring import is_correct
from glossogenesis.injection.tasks import TranslationTask
from glossogenesis.patching.injection_comet import Comet
from glossogenesis.statistics.intervals import Bootstrap, times_drawn

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """One metric of a set of answers."""

    value: float
    resampled: Floats
    """The same of every resample of the sentences, `[resample]`; NaN of a single sentence."""
    sentences: int


class TranslationScorer:
    """Scores answers to one task; equal answers are scored once.

    Attributes:
        signatures: how sacrebleu describes each metric; filled when something is scored.
    """

    def __init__(self, task: TranslationTask, bootstrap: Bootstrap, comet: Comet | None) -> None:
        """Draw the resamples; `comet` is None where it is not asked for."""
        self._task = task
        self._comet = comet
        # sacrebleu takes None where a sentence has no further reference, which its types leave out.
        self._streams: Any = _reference_streams(task.references)
        self._draws = times_drawn(len(task.prompts), bootstrap)
        self._known: dict[tuple[str, ...], dict[str, Score]] = {}
        self.signatures: dict[str, str] = {}

    def scores(self, answers: Sequence[str]) -> dict[str, Score]:
        """Scores by metric: `bleu` and `chrf` (0 to 100), `exact` (share) of words, `comet`."""
        key = tuple(answers)
        if key not in self._known:
            self._known[key] = self._scored(answers)
        return self._known[key]

    def _scored(self, answers: Sequence[str]) -> dict[str, Score]:
        max_ngram_order = 1 if self._task.of_words else 4
        metrics: dict[str, Metric] = {
            "bleu": BLEU(
                tokenize="13a" if self._task.spaced else "char",
                max_ngram_order=max_ngram_order,
                effective_order=True,
            ),
            "chrf": CHRF(),
        }
        scores = {name: self._of_corpus(metric, answers) for name, metric in metrics.items()}
        self.signatures |= {name: str(metric.get_signature()) for name, metric in metrics.items()}
        # sacrebleu's own signature leaves this out.
        self.signatures["bleu"] += f"|ngrams:{max_ngram_order}"
        if self._task.of_words:
            scores["exact"] = self._mean(
                [
                    is_correct(answer, accepted, self._task.spaced)
                    for answer, accepted in zip(answers, self._task.references, strict=True)
                ]
            )
        if self._comet is not None:
            usual = [references[0] for references in self._task.references]
            scores["comet"] = self._mean(self._comet(self._task.sources, answers, usual))
        return scores

    def _of_corpus(self, metric: Metric, answers: Sequence[str]) -> Score:
        value = metric.corpus_score(list(answers), self._streams).score
        # sacrebleu's own significance tests resample these sums in the same way; it offers no
        # public name for them.
        sums = np.array(metric._extract_corpus_statistics(list(answers), self._streams))
        resampled = [
            metric._compute_score_from_stats(total.tolist()).score for total in self._draws @ sums
        ]
        return self._score(value, np.array(resampled, dtype=np.float64))

    def _mean(self, values: Sequence[float]) -> Score:
        numbers = np.asarray(values, dtype=np.float64)
        return self._score(numbers.mean(), self._draws @ numbers / len(numbers))

    def _score(self, value: float, resampled: Floats) -> Score:
        """A score, whose resamples are NaN where there is a single sentence."""
        sentences = len(self._task.prompts)
        drawn = np.full_like(resampled, np.nan) if sentences < 2 else resampled
        return Score(float(value), drawn, sentences)


def _reference_streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """First references of all sentences, then second ones, and so on; None where there is none."""
    most = max(len(accepted) for accepted in references)
    return [
        [accepted[rank] if rank < len(accepted) else None for accepted in references]
        for rank in range(most)
    ]
