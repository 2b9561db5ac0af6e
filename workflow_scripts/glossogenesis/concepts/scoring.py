"""What a generated translation is: correct or not, and if not, what else it is.

The paper's rule (Körner et al. 2026): an answer counts if it equals a listed word or begins with
one as a whole word, so "absence of desire" counts for "absence" and "organizer" does not count for
"organ". The boundary is any character that is not a letter, mark, digit, joiner or underscore.
Japanese and Chinese put no space between words, so a longer answer there could be another word:
only an equal answer counts. What makes words equal is in `corpora.words`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from glossogenesis.corpora.words import comparable, joins

Outcome = Literal[
    "correct", "synonym", "copied_input", "kept_target", "source_other_language", "other"
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

CLOSING_QUOTE = '"'


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
