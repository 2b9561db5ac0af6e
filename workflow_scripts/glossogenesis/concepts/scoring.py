"""From what a run generated to scored rows of `patching.parquet`, and checkpoints left out.

The paper's rule (Körner et al. 2026): an answer counts if it equals a listed word or begins with
one as a whole word, so "absence of desire" counts for "absence" and "organizer" does not count for
"organ". The boundary is any character that is not a letter, mark, digit, joiner or underscore.
Japanese and Chinese put no space between words, so a longer answer there could be another word:
only an equal answer counts. What makes words equal is in `corpora.lexicon`.

They stand apart from the tables made of them, so that a change of a table or interval does not make
the rows outdated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import polars as pl

from glossogenesis.corpora.lexicon import Concept, Lexicon, comparable, joins
from glossogenesis.exceptions import StudyError

if TYPE_CHECKING:
    from torch import Tensor

Outcome = Literal[
    "correct", "synonym", "copied_input", "kept_target", "source_other_language", "other"
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

CLOSING_QUOTE = '"'

LanguagePair = tuple[str, str]

Setting = Literal["tgt_unpatched", "src_unpatched", "seen", "tgt", "en_en", "copy", "self"]
SETTINGS: tuple[Setting, ...] = get_args(Setting)

PATCHING_SCHEMA = pl.Schema(
    {
        "item": pl.Int32,
        "setting": pl.String,
        "input_language": pl.String,
        "output_language": pl.String,
        "start_layer": pl.Int32,
        "source_concept": pl.String,
        "target_concept": pl.String,
        "expected_concept": pl.String,
        "answer": pl.String,
        "correct": pl.Boolean,
        "outcome": pl.String,
        "copyable": pl.Boolean,
        "log_p_source": pl.Float32,
        "log_p_target": pl.Float32,
        "log_p_expected": pl.Float32,
    }
)


@dataclass(frozen=True)
class Words:
    """The words of one concept in one language, the main word first.

    `spaced_script` says whether the language puts spaces between words (not Japanese, not Chinese).
    """

    forms: tuple[str, ...]
    spaced_script: bool

    def __post_init__(self) -> None:
        if not self.forms:
            raise ValueError("a concept needs at least one word in each language it is scored in")

    def match(self, answer: str) -> bool:
        """Whether `answer` is, or begins with, one of the words."""
        return is_correct(answer, self.forms, self.spaced_script)


def answer_of(generated_text: str) -> str:
    """The answer that follows the open quote: up to the first closing quote, stripped."""
    return generated_text.partition(CLOSING_QUOTE)[0].strip()


def is_correct(answer: str, accepted: Sequence[str], spaced_script: bool) -> bool:
    """Whether `answer` equals an accepted word or begins with one as a whole word.

    The latter only in a spaced script. ValueError where an accepted word is empty: it would begin
    every answer.
    """
    given = comparable(answer)
    for word in accepted:
        wanted = comparable(word)
        if not wanted:
            raise ValueError(f"an accepted word is empty in {list(accepted)!r}")
        if given == wanted:
            return True
        if spaced_script and given.startswith(wanted) and not joins(given[len(wanted)]):
            return True
    return False


def classify_outcome(
    answer: str,
    *,
    expected: Words,
    copied: Sequence[Words],
    kept: Words | None,
    other_languages: Sequence[Words],
) -> Outcome:
    """The one class of an answer; the first that holds, in this order, wins.

    1. `correct`: the main word of `expected`, the expected concept in the output language. It is
       the source concept of a patched run, else the query's.
    2. `synonym`: another accepted word of it. These two together are exactly `is_correct`.
    3. `copied_input`: one of `copied`, the words that copying the input would give: the query word
       as the prompt shows it and, of a patched run, the source concept's main word in the input
       language of the target pair.
    4. `kept_target`: one of `kept`, the target concept in the output language, although another
       concept was patched in; None where there is no such.
    5. `source_other_language`: one of `other_languages`, the expected concept in every language of
       the study but the output language.
    6. `other`: anything else, an empty answer among it.

    A cognate or homograph fits several classes and counts for the first: Spanish "animal" answered
    for English "animal" is `correct`, not `copied_input`; a query word that is also the target's
    translation is `copied_input`, not `kept_target`. The later classes are therefore lower bounds;
    `copyable` pairs are reported apart for this reason.
    """
    if Words(expected.forms[:1], expected.spaced_script).match(answer):
        return "correct"
    if expected.match(answer):
        return "synonym"
    if any(words.match(answer) for words in copied):
        return "copied_input"
    if kept is not None and kept.match(answer):
        return "kept_target"
    if any(words.match(answer) for words in other_languages):
        return "source_other_language"
    return "other"


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


def check_rows(rows: pl.DataFrame, source: str) -> None:
    """Refuse rows that do not fit `PATCHING_SCHEMA` or hold a value that cannot be.

    StudyError names the file, given as `source`, the column and the fix.
    """
    fix = f"remove {source} and run again"
    for column, dtype in PATCHING_SCHEMA.items():
        if rows.schema.get(column) != dtype:
            found = rows.schema.get(column, "no such column")
            raise StudyError(f"{source}: column {column} should be {dtype}, is {found}; {fix}")
    for column, known in (("setting", SETTINGS), ("outcome", OUTCOMES)):
        strange = sorted(set(rows[column].drop_nulls().unique()) - set(known))
        if strange:
            raise StudyError(f"{source}: unknown {column} {strange[0]!r}; {fix}")
    if rows["answer"].is_null().ne(rows["correct"].is_null()).any():
        raise StudyError(f"{source}: rows with an answer but no score, or the reverse; {fix}")
    for column in ("log_p_source", "log_p_target", "log_p_expected"):
        broken = int(rows[column].is_nan().sum())
        if broken:
            raise StudyError(
                f"{source}: {column} is not a number in {broken} rows, which no run writes; {fix}"
            )
