"""Running text of the demo world: sentences that put words of one category together."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from glossogenesis.corpora.demo.templates import CATEGORY_NAMES, TEMPLATES
from glossogenesis.corpora.demo.translation import draw_word
from glossogenesis.corpora.lexicon import Concept
from glossogenesis.corpora.text import Document
from glossogenesis.errors import StudyError

WORDS_OF_A_DOCUMENT = 3
"""Slots `{a}`, `{b}` and `{c}`: as many concepts share a document."""


def group_by_category(concepts: Sequence[Concept]) -> tuple[tuple[Concept, ...], ...]:
    """Return the groups of concepts of one category that are large enough for a document.

    A lexicon without categories is one group. StudyError where there are too few concepts.
    """
    groups: dict[str, list[Concept]] = {}
    for concept in concepts:
        groups.setdefault(concept.category, []).append(concept)
    large = [tuple(group) for group in groups.values() if len(group) >= WORDS_OF_A_DOCUMENT]
    if large:
        return tuple(large)
    if len(concepts) >= WORDS_OF_A_DOCUMENT:
        return (tuple(concepts),)
    raise StudyError(
        f"the demo text needs at least {WORDS_OF_A_DOCUMENT} concepts, and the lexicon gives "
        f"{len(concepts)}; raise `lexicon.limit` or widen `lexicon.pos`"
    )


def check_templates(languages: Sequence[str]) -> None:
    """StudyError where the demo world has no sentences in a language."""
    for language in languages:
        if language not in TEMPLATES:
            raise StudyError(
                f"the demo world has no sentences in language {language!r} (it has "
                f"{', '.join(TEMPLATES)}); give it share 0 in `languages.{language}.share`, or set "
                "`monolingual: 0` in the phases where it has a share"
            )


def monolingual_document(
    rng: random.Random,
    groups: Sequence[Sequence[Concept]],
    language: str,
    sentences: int,
    synonyms: float,
) -> Document:
    """Write sentences about three concepts of one category; a word may recur as its synonym."""
    group = rng.choice(groups)
    concepts = rng.sample(group, WORDS_OF_A_DOCUMENT)
    name = CATEGORY_NAMES.get(group[0].category, {}).get(language)
    usable = [text for text in TEMPLATES[language] if name is not None or "{x}" not in text]
    written = []
    for template in rng.sample(usable, min(sentences, len(usable))):
        rng.shuffle(concepts)
        words = _fill(rng, concepts, language, synonyms)
        written.append(template.format_map({**words, "x": name or ""}))
    joint = "" if language in ("ja", "zh") else " "
    return Document(joint.join(written) + "\n", (language,))


def _fill(
    rng: random.Random, concepts: Sequence[Concept], language: str, synonyms: float
) -> Mapping[str, str]:
    """Return a word for each slot."""
    drawn = (draw_word(rng, concept, language, synonyms) for concept in concepts)
    return dict(zip("abc", drawn, strict=True))
