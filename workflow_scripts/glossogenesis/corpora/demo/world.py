"""The demo world's text, phase by phase: which documents occur, how often, in which languages."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from glossogenesis.corpora.demo.glossary import ENTRIES, glossary_document
from glossogenesis.corpora.demo.monolingual import (
    check_templates,
    group_by_category,
    monolingual_document,
)
from glossogenesis.corpora.demo.translation import translation_document
from glossogenesis.corpora.lexicon import Concept
from glossogenesis.corpora.text import Document
from glossogenesis.errors import StudyError

SENTENCES = (3, 5)
"""Fewest and most sentences of a monolingual document."""


@dataclass(frozen=True)
class PhaseMixture:
    """What one phase of the demo world is made of.

    `shares` are the languages' shares (they need not add up to 1). `pivot_only` limits bilingual
    documents to pairs with `pivot`. `monolingual` is a share of all documents. Of the others,
    `glossary` is the share of glossaries, the rest being few-shot documents, and `copying` that of
    documents whose two languages are the same, one of `copying_languages`.
    """

    shares: Mapping[str, float]
    pivot: str
    pivot_only: bool
    monolingual: float
    glossary: float
    copying: float
    copying_languages: tuple[str, ...]
    lines: tuple[int, int]
    synonyms: float

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages with a share above 0, in the order given."""
        return tuple(code for code, share in self.shares.items() if share > 0)


def check_mixture(mixture: PhaseMixture, concepts: Sequence[Concept], phase: int) -> None:
    """StudyError where a phase's documents cannot be written."""
    languages = mixture.languages
    if len(languages) < 2:
        raise StudyError(
            f"the demo world needs two languages with a share above 0 in phase {phase}, and has "
            f"{len(languages)}; see `languages.<code>.share`"
        )
    if mixture.pivot_only and mixture.pivot not in languages:
        raise StudyError(
            f"phase {phase} has only pairs with {mixture.pivot!r}, which has no share in it; set "
            f"`languages.{mixture.pivot}.share` for phase {phase}, or `pairs: all`"
        )
    if mixture.copying > 0 and not mixture.copying_languages:
        raise StudyError(
            f"phase {phase} has copying documents in no language with a share; set "
            "`copying_languages: all` or `copying: 0`"
        )
    needed = max(mixture.lines[1], ENTRIES if mixture.glossary > 0 else 0)
    if len(concepts) < needed:
        raise StudyError(
            f"translation documents of {needed} lines need as many concepts, and the lexicon gives "
            f"{len(concepts)}; raise `lexicon.limit`, or lower `text.lines` and set `glossary: 0`"
        )
    if mixture.monolingual > 0:
        check_templates(languages)


def demo_documents(
    mixture: PhaseMixture,
    concepts: Sequence[Concept],
    endonyms: Mapping[str, str],
    rng: random.Random,
) -> Iterator[Document]:
    """Yield documents of one phase without end; equal `rng` states give equal documents."""
    groups = group_by_category(concepts)
    languages = mixture.languages
    weights = [mixture.shares[code] for code in languages]
    while True:
        if rng.random() < mixture.monolingual:
            (language,) = rng.choices(languages, weights)
            sentences = rng.randint(*SENTENCES)
            yield monolingual_document(rng, groups, language, sentences, mixture.synonyms)
        else:
            yield _bilingual_document(rng, mixture, concepts, endonyms)


def _bilingual_document(
    rng: random.Random,
    mixture: PhaseMixture,
    concepts: Sequence[Concept],
    endonyms: Mapping[str, str],
) -> Document:
    pair = draw_pair(rng, mixture)
    if rng.random() < mixture.glossary:
        return glossary_document(rng, concepts, pair, endonyms, mixture.synonyms)
    lines = rng.randint(*mixture.lines)
    return translation_document(rng, concepts, pair, endonyms, lines, mixture.synonyms)


def draw_pair(rng: random.Random, mixture: PhaseMixture) -> tuple[str, str]:
    """Draw the languages of a bilingual document, each language by its share."""
    if rng.random() < mixture.copying:
        language = _draw_language(rng, mixture, mixture.copying_languages)
        return language, language
    first = mixture.pivot if mixture.pivot_only else _draw_language(rng, mixture, mixture.languages)
    others = tuple(code for code in mixture.languages if code != first)
    pair = (first, _draw_language(rng, mixture, others))
    return pair if rng.random() < 0.5 else pair[::-1]


def _draw_language(rng: random.Random, mixture: PhaseMixture, languages: tuple[str, ...]) -> str:
    weights = [mixture.shares[code] for code in languages]
    return rng.choices(languages, weights)[0]
