"""Which concepts meet: no first token or demonstration shared, even use, one draw a seed."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from glossogenesis.concepts.prompts import ItemSelection, colliding_pairs, select_items
from glossogenesis.corpora.lexicon import Concept
from glossogenesis.exceptions import StudyError

NAMES = [f"c{number:02d}" for number in range(20)]


def concept(name: str, *words: str) -> Concept:
    return Concept(name, "noun", "", "", {"en": words or (name,), "es": (f"{name}-es",)})


CONCEPTS = [concept(name) for name in NAMES]
# Concepts share the first token of their English answer with one neighbour.
TOKENS = {
    name: {"en": frozenset({place // 2}), "es": frozenset({100 + place})}
    for place, name in enumerate(NAMES)
}


def draw(items: int = 40, few_shot: int = 3, seed: int = 1) -> ItemSelection:
    return select_items(CONCEPTS, TOKENS, items=items, few_shot=few_shot, seed=seed)


def test_colliding_pairs_in_any_language() -> None:
    tokens = {
        "a": {"en": frozenset({1, 2}), "es": frozenset({7})},
        "b": {"en": frozenset({2}), "es": frozenset({8})},
        "c": {"en": frozenset({3}), "es": frozenset({7})},
        "d": {"en": frozenset({7}), "es": frozenset({2})},
    }
    assert colliding_pairs(list(tokens), tokens) == {frozenset("ab"), frozenset("ac")}


def test_source_and_target_differ_in_first_token() -> None:
    for item in draw(items=200).items:
        assert item.source != item.target
        for language in ("en", "es"):
            assert not TOKENS[item.source][language] & TOKENS[item.target][language]


def test_counts() -> None:
    selection = draw()
    assert len(selection.items) == 40
    assert [item.number for item in selection.items] == list(range(40))
    assert selection.colliding_pairs == 20
    assert selection.usable_pairs == 20 * 19 - 20
    pairs = [(item.source, item.target) for item in selection.items]
    assert len(set(pairs)) == len(pairs)


def test_all_usable_pairs_can_be_drawn_and_no_more() -> None:
    assert len({(i.source, i.target) for i in draw(items=360).items}) == 360
    with pytest.raises(
        StudyError,
        match=r"361 concept pairs asked for, but only 360 can be drawn from 20 concepts "
        r"\(20 of 380 ordered pairs left out, since their answers begin with the same token\)",
    ):
        draw(items=361)


@pytest.mark.parametrize("items", [10, 20, 40, 50])
def test_concepts_are_used_evenly(items: int) -> None:
    selection = draw(items=items)
    for side in ("source", "target"):
        uses = Counter(getattr(item, side) for item in selection.items)
        assert max(uses.values()) <= math.ceil(items / len(NAMES)) + 1


def test_demonstrations() -> None:
    shown_by: dict[str, tuple[str, ...]] = {}
    for item in draw(items=200).items:
        assert len(set(item.source_few_shot)) == len(set(item.target_few_shot)) == 3
        assert not set(item.source_few_shot) & set(item.target_few_shot)
        shown = {*item.source_few_shot, *item.target_few_shot}
        assert not {item.source, item.target} & set(item.target_few_shot)
        assert item.source not in shown
        assert shown_by.setdefault(item.source, item.source_few_shot) == item.source_few_shot


def test_demonstrations_of_a_source_do_not_depend_on_the_other_items() -> None:
    few, many = draw(items=10), draw(items=100)
    shown = {item.source: item.source_few_shot for item in many.items}
    assert all(shown[item.source] == item.source_few_shot for item in few.items)


def test_demonstrations_share_no_word_with_the_concepts_asked_for() -> None:
    """`b1` and `b2` are written alike, so neither may demonstrate for the other."""
    concepts = [concept("b1", "bat"), concept("b2", "club", "bat"), *CONCEPTS[:4]]
    names = [item.name for item in concepts]
    tokens = {name: {"en": frozenset({place})} for place, name in enumerate(names)}
    selection = select_items(concepts, tokens, items=12, few_shot=1, seed=0)
    for item in selection.items:
        for twin, other in (("b1", "b2"), ("b2", "b1")):
            if twin == item.source:
                assert other not in item.source_few_shot
            if twin in (item.source, item.target, *item.source_few_shot):
                assert other not in item.target_few_shot


def test_too_few_concepts_to_demonstrate() -> None:
    with pytest.raises(
        StudyError,
        match=r"`concepts.few_shot`: 10 demonstrations asked for, but only [89] concepts",
    ):
        draw(few_shot=10)


def test_one_draw_a_seed() -> None:
    assert draw() == draw()
    assert draw(seed=2) != draw()
