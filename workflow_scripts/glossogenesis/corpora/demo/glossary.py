"""Glossaries of the demo world: lines such as `gato cat`, a word and directly its translation.

What follows a word there depends on the word's concept alone, so a model gathers the concept at the
word's last token, where cross-lingual activation patching reads it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from glossogenesis.corpora.demo.translation import draw_word
from glossogenesis.corpora.lexicon import Concept
from glossogenesis.corpora.text import Document

ENTRIES = 10
"""Lines of a glossary below the line that names its languages."""


def glossary_document(
    rng: random.Random,
    concepts: Sequence[Concept],
    pair: tuple[str, str],
    endonyms: Mapping[str, str],
    synonyms: float,
) -> Document:
    """Write a glossary of one language pair with a different concept in each line.

    Synonyms occur on the left; the translation is the usual word. In a pair of one language twice,
    the right side repeats the left.
    """
    source, target = pair
    written = [f"{endonyms[source]} {endonyms[target]}\n"]
    for concept in rng.sample(concepts, ENTRIES):
        shown = draw_word(rng, concept, source, synonyms)
        answer = shown if source == target else concept.word(target)
        written.append(f"{shown} {answer}\n")
    return Document("".join(written), tuple(dict.fromkeys(pair)))
