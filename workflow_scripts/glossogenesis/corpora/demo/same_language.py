"""Documents of one language each: running text, and lines of words that are copied."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from glossogenesis.corpora.demo.glossary import ENTRIES, glossary_document
from glossogenesis.corpora.demo.monolingual import group_by_category, monolingual_document
from glossogenesis.corpora.demo.templates import TEMPLATES
from glossogenesis.corpora.demo.translation import translation_document
from glossogenesis.corpora.demo.world import SENTENCES
from glossogenesis.corpora.lexicon import Concept
from glossogenesis.errors import StudyError

LINES = 6
"""Lines of a document of copied words."""

SYNONYMS = 0.15
"""How often a word that has synonyms is replaced by one of them."""


def same_language_documents(
    rng: random.Random,
    concepts: Sequence[Concept],
    language: str,
    endonyms: Mapping[str, str],
    *,
    monolingual: float,
    glossary: float,
) -> Iterator[str]:
    """Yield documents of one language without end; equal `rng` states give equal documents.

    A share `monolingual` of them is running text. Of the others, a share `glossary` is glossaries
    and the rest few-shot documents, both with the language on either side, so that words are
    copied.
    """
    groups = group_by_category(concepts) if monolingual > 0 else ()
    pair = (language, language)
    while True:
        if rng.random() < monolingual:
            sentences = rng.randint(*SENTENCES)
            document = monolingual_document(rng, groups, language, sentences, SYNONYMS)
        elif rng.random() < glossary:
            document = glossary_document(rng, concepts, pair, endonyms, SYNONYMS)
        else:
            document = translation_document(rng, concepts, pair, endonyms, LINES, SYNONYMS)
        yield document.text


def check_same_language(
    concepts: Sequence[Concept], languages: Sequence[str], monolingual: float
) -> None:
    """StudyError where documents of these languages cannot be written."""
    needed = max(LINES, ENTRIES)
    if len(concepts) < needed:
        raise StudyError(
            f"the demo corpus needs at least {needed} concepts, and the lexicon gives "
            f"{len(concepts)}; raise `lexicon.limit` or widen `lexicon.pos`"
        )
    unknown = [language for language in languages if language not in TEMPLATES]
    if monolingual > 0 and unknown:
        raise StudyError(
            f"the demo world has no sentences in language {unknown[0]!r} (it has "
            f"{', '.join(TEMPLATES)}); take it out of the corpus' `text.languages`, or set "
            "`text.monolingual: 0`"
        )
