"""Few-shot translation documents: lines such as `Español: "gato" - English: "cat"`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from glossogenesis.corpora.lexicon import Concept
from glossogenesis.corpora.text import Document


def draw_word(rng: random.Random, concept: Concept, language: str, synonyms: float) -> str:
    """Return the usual word, or with probability `synonyms` one of the others if there are any."""
    words = concept.words[language]
    if len(words) > 1 and rng.random() < synonyms:
        return rng.choice(words[1:])
    return words[0]


def translation_document(
    rng: random.Random,
    concepts: Sequence[Concept],
    pair: tuple[str, str],
    endonyms: Mapping[str, str],
    lines: int,
    synonyms: float,
) -> Document:
    """Write one document of one language pair with a different concept in each line.

    Synonyms occur on the input side; the output is the usual word, so that the answer to a prompt
    is determined. In a pair of one language twice, the output copies the input.
    """
    source, target = pair
    written = []
    for concept in rng.sample(concepts, lines):
        shown = draw_word(rng, concept, source, synonyms)
        answer = shown if source == target else concept.word(target)
        written.append(f'{endonyms[source]}: "{shown}" - {endonyms[target]}: "{answer}"\n')
    return Document("".join(written), tuple(dict.fromkeys(pair)))
