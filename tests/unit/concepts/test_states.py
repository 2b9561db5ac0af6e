"""Source states: order, means, and the tokenizer that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
import pytest
import torch

from glossogenesis.concepts.states import SourceStates, extract_states, states_from_file
from glossogenesis.exceptions import StudyError
from glossogenesis.storage.provenance import Provenance

PROMPTS = pl.DataFrame(
    {
        "role": ["source", "source", "target", "source", "source"],
        "concept": ["cat", "sun", "sun", "cat", "sun"],
        "input_language": ["es", "es", "es", "ru", "ru"],
        "output_language": ["en", "en", "en", "fi", "fi"],
        "token_ids": [[1, 2, 3], [4, 5], [9, 9], [6, 7], [8, 9]],
        "position": [1, 0, 0, 1, 1],
    }
)


def capture(
    token_ids: Sequence[Sequence[int]], positions: Sequence[int], on_batch: Callable[[int], object]
) -> torch.Tensor:
    """One layer, one unit: the token at the position."""
    on_batch(len(token_ids))
    found = [ids[place] for ids, place in zip(token_ids, positions, strict=True)]
    return torch.tensor(found, dtype=torch.float32)[:, None, None]


def test_states_of_source_prompts_by_pair() -> None:
    states = extract_states(PROMPTS, capture)
    assert states.concepts == ["cat", "sun"]
    assert {name: tensor.flatten().tolist() for name, tensor in states.by_pair.items()} == {
        "es-en": [2.0, 4.0],
        "ru-fi": [7.0, 9.0],
    }


def test_pairs_with_other_concepts_are_refused() -> None:
    with pytest.raises(StudyError, match="source pairs differ in concepts; remake it"):
        extract_states(PROMPTS[:-1], capture)


def test_mean_over_pairs_in_the_order_asked_for() -> None:
    states = extract_states(PROMPTS, capture)
    mean = states.mean_patch([("es", "en"), ("ru", "fi")], ["sun", "cat", "sun"])
    assert mean.flatten().tolist() == [6.5, 4.5, 6.5]
    assert torch.equal(states.mean_patch([("ru", "fi")], ["cat"]), states.by_pair["ru-fi"][:1])


def test_mean_keeps_the_dtype_and_is_taken_in_float32() -> None:
    """In bfloat16 itself 256 + 1 + 1 would be 256."""
    values = torch.tensor([256.0, 1.0, 1.0], dtype=torch.bfloat16)
    by_pair = {f"a{n}-b": value.reshape(1, 1, 1) for n, value in enumerate(values)}
    mean = SourceStates(["cat"], by_pair).mean_patch([(f"a{n}", "b") for n in range(3)], ["cat"])
    assert mean.dtype == torch.bfloat16
    assert mean.item() == torch.tensor(86.0, dtype=torch.bfloat16).item()


def test_states_from_a_file() -> None:
    origin = Provenance("states", "s", {}, {}, "", facts={"concepts": ["cat", "sun"]}, libraries={})
    states = extract_states(PROMPTS, capture)
    assert states_from_file(states.by_pair, origin) == states
