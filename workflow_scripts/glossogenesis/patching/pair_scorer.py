"""From what a run generated for a language pair to scored rows of `patching.parquet`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl
from torch import Tensor

from glossogenesis.concepts.scoring import Words, classify_outcome
from glossogenesis.corpora.lexicon import Concept, Lexicon
from glossogenesis.patching.rows import PATCHING_SCHEMA

LanguagePair = tuple[str, str]


@dataclass(frozen=True)
class AnswerWords:
    """The lexicon as scoring needs it."""

    lexicon: Lexicon
    spaced: Mapping[str, bool]
    """Whether spaces delimit a language's words."""

    def of(self, concept: str, language: str, *, main_only: bool = False) -> Words:
        """A concept's accepted words in a language, or its usual word alone."""
        words = self._concepts[concept].words[language]
        return Words(words[:1] if main_only else words, self.spaced[language])

    def copyable(self, concept: str, pair: LanguagePair) -> bool:
        """Whether an answer that copies the input language's usual word is correct."""
        return self.of(concept, pair[1]).match(self.of(concept, pair[0]).forms[0])

    @cached_property
    def _concepts(self) -> dict[str, Concept]:
        return {concept.name: concept for concept in self.lexicon.concepts}


@dataclass(frozen=True)
class PairScorer:
    """Turns what a run generated for one target pair into rows of `PATCHING_SCHEMA`."""

    pair: LanguagePair
    targets: pl.DataFrame
    words: AnswerWords
    answer: Callable[[Sequence[int]], str]

    def rows(
        self,
        setting: str,
        start_layer: int | None,
        generated: Tensor | None,
        *,
        expects_source: bool,
        log_p_source: Tensor,
        log_p_target: Tensor | None,
    ) -> pl.DataFrame:
        """Rows of all items at one setting and start layer.

        `generated` is `[item, token]` or None where no answer was generated; log-probabilities are
        `[item]`.
        """
        sources = self.targets["source_concept"].to_list()
        targets = self.targets["concept"].to_list()
        expected = sources if expects_source else targets
        answers: list[str | None] = [None] * len(targets)
        outcomes: list[str | None] = [None] * len(targets)
        if generated is not None:
            tokens: list[list[int]] = generated.tolist()
            answers = [self.answer(row) for row in tokens]
            outcomes = [
                self._outcome(self.answer(row), setting, source, target)
                for row, source, target in zip(tokens, sources, targets, strict=True)
            ]
        log_p_expected = log_p_source if expects_source else log_p_target
        columns = {
            "item": self.targets["item"],
            "setting": [setting] * len(targets),
            "input_language": [self.pair[0]] * len(targets),
            "output_language": [self.pair[1]] * len(targets),
            "start_layer": [start_layer] * len(targets),
            "source_concept": sources,
            "target_concept": targets,
            "expected_concept": expected,
            "answer": answers,
            "correct": [
                None if kind is None else kind in ("correct", "synonym") for kind in outcomes
            ],
            "outcome": outcomes,
            "copyable": [self.words.copyable(concept, self.pair) for concept in expected],
            "log_p_source": _numbers(log_p_source, len(targets)),
            "log_p_target": _numbers(log_p_target, len(targets)),
            "log_p_expected": _numbers(log_p_expected, len(targets)),
        }
        return pl.DataFrame(columns, schema=PATCHING_SCHEMA)

    def _outcome(self, answer: str, setting: str, source: str, target: str) -> str:
        """Class of one answer; which words count as copied or kept depends on the setting."""
        input_language, output_language = self.pair
        expected = target if setting in ("tgt_unpatched", "self") else source
        is_patched_in = setting not in ("tgt_unpatched", "src_unpatched", "self")
        shown = target if setting != "src_unpatched" else source
        copied = [self.words.of(shown, input_language, main_only=True)]
        if is_patched_in:
            copied.append(self.words.of(source, input_language, main_only=True))
        return classify_outcome(
            answer,
            expected=self.words.of(expected, output_language),
            copied=copied,
            kept=self.words.of(target, output_language) if is_patched_in else None,
            other_languages=[
                self.words.of(expected, code)
                for code in self.words.spaced
                if code != output_language
            ],
        )


def _numbers(values: Tensor | None, count: int) -> list[float | None]:
    return [None] * count if values is None else values.float().tolist()
