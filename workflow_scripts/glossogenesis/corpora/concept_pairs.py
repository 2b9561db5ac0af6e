"""Which concept is patched into whose prompt, and which concepts demonstrate the task."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from glossogenesis.corpora.lexicon import Concept
from glossogenesis.errors import StudyError

FirstTokens = Mapping[str, Mapping[str, frozenset[int]]]
"""First answer tokens by concept and language."""


@dataclass(frozen=True)
class Item:
    """A source concept, a target concept, and the concepts of their prompts' demonstrations."""

    number: int
    source: str
    target: str
    source_few_shot: tuple[str, ...]
    target_few_shot: tuple[str, ...]


@dataclass(frozen=True)
class ItemSelection:
    """The items, and how many ordered concept pairs were usable or left out."""

    items: tuple[Item, ...]
    usable_pairs: int
    colliding_pairs: int


def select_items(
    concepts: Sequence[Concept],
    first_tokens: FirstTokens,
    *,
    items: int,
    few_shot: int,
    seed: int,
) -> ItemSelection:
    """Draw items so that source and target differ in first answer token in every language.

    Concepts are used as evenly as possible on either side. Demonstrations of a source concept
    depend on that concept alone, so that its states are computed once per language pair; source
    and target prompts of an item share no demonstration (Körner et al. 2026).
    StudyError where the lexicon has too few usable concepts.
    """
    names = [concept.name for concept in concepts]
    colliding = colliding_pairs(names, first_tokens)
    usable = len(names) * (len(names) - 1) - 2 * len(colliding)
    pairs = _draw_pairs(names, colliding, items, random.Random(f"{seed}:pairs"))
    if len(pairs) < items:
        raise StudyError(
            f"`concepts.items`: {items} concept pairs asked for, but only {len(pairs)} can be "
            f"drawn from {len(names)} concepts ({2 * len(colliding)} of "
            f"{len(names) * (len(names) - 1)} ordered pairs left out, since their answers begin "
            "with the same token); lower `concepts.items` or raise `lexicon.limit`"
        )
    demonstrations = {
        source: _draw_few_shot(concepts, {source}, few_shot, seed, f"source:{source}")
        for source in {source for source, _ in pairs}
    }
    selected = []
    for number, (source, target) in enumerate(pairs):
        taken = {source, target, *demonstrations[source]}
        key = f"target:{number}:{source}:{target}"
        selected.append(
            Item(
                number,
                source,
                target,
                demonstrations[source],
                _draw_few_shot(concepts, taken, few_shot, seed, key),
            )
        )
    return ItemSelection(tuple(selected), usable, 2 * len(colliding))


def colliding_pairs(names: Sequence[str], first_tokens: FirstTokens) -> set[frozenset[str]]:
    """Return the unordered pairs of concepts that share a first answer token in some language."""
    holders: dict[tuple[str, int], list[str]] = {}
    for name in names:
        for language, tokens in first_tokens[name].items():
            for token in tokens:
                holders.setdefault((language, token), []).append(name)
    return {frozenset(pair) for group in holders.values() for pair in combinations(group, 2)}


def _draw_pairs(
    names: Sequence[str], colliding: set[frozenset[str]], wanted: int, draw: random.Random
) -> list[tuple[str, str]]:
    """Match sources with targets round by round, each concept once a side in a round."""
    pairs: list[tuple[str, str]] = []
    drawn: set[tuple[str, str]] = set()
    while len(pairs) < wanted:
        before = len(pairs)
        sources = draw.sample(names, len(names))
        targets = draw.sample(names, len(names))
        for source in sources:
            for place, target in enumerate(targets):
                fits = source != target and frozenset((source, target)) not in colliding
                if fits and (source, target) not in drawn:
                    pairs.append((source, target))
                    drawn.add((source, target))
                    del targets[place]
                    break
            if len(pairs) == wanted:
                break
        if len(pairs) == before:
            break
    return pairs


def _draw_few_shot(
    concepts: Sequence[Concept], taken: set[str], count: int, seed: int, key: str
) -> tuple[str, ...]:
    """Draw demonstration concepts that share no word with the taken ones in any language."""
    taken_words = Counter(
        (language, word)
        for concept in concepts
        if concept.name in taken
        for language, words in concept.words.items()
        for word in words
    )
    allowed = [
        concept.name
        for concept in concepts
        if concept.name not in taken
        and not any(
            (language, word) in taken_words
            for language, words in concept.words.items()
            for word in words
        )
    ]
    if len(allowed) < count:
        raise StudyError(
            f"`concepts.few_shot`: {count} demonstrations asked for, but only {len(allowed)} "
            f"concepts are free beside {', '.join(sorted(taken))}; lower it or raise "
            "`lexicon.limit`"
        )
    return tuple(random.Random(f"{seed}:{key}").sample(allowed, count))
