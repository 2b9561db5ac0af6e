"""Captured residual streams against transformers' own hidden states."""

from __future__ import annotations

import pytest
import torch

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import residual_at
from support.tiny_models import D_MODEL, EACH_ARCHITECTURE, random_tokens, tiny_anatomy

LENGTHS = [5, 17, 11, 17, 9]
POSITIONS = [4, 3, 10, 16, 0]


@pytest.fixture(params=EACH_ARCHITECTURE)
def anatomy(request: pytest.FixtureRequest) -> Anatomy:
    return tiny_anatomy(request.param)


def test_equals_hidden_states_whatever_the_batch(anatomy: Anatomy) -> None:
    prompts = random_tokens(LENGTHS)
    for batch_size in (1, 2, 5):
        states = residual_at(anatomy, prompts, POSITIONS, batch_size=batch_size)
        assert states.shape == (5, anatomy.n_layers, D_MODEL)
        for index, (ids, position) in enumerate(zip(prompts, POSITIONS, strict=True)):
            hidden = anatomy.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
            expected = torch.stack([states[0, position] for states in hidden[1:]])
            given = states[index].clone()
            given[-1] = anatomy.final_norm(given[-1])
            torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)


def test_wanted_layers_only_and_stops_after_the_last(anatomy: Anatomy) -> None:
    prompts = random_tokens(LENGTHS)
    calls: list[int] = []
    handles = [
        block.register_forward_hook(lambda *_, layer=layer: calls.append(layer))
        for layer, block in enumerate(anatomy.blocks)
    ]
    some = residual_at(anatomy, prompts, POSITIONS, batch_size=8, layers=[2, 0])
    for handle in handles:
        handle.remove()
    everything = residual_at(anatomy, prompts, POSITIONS, batch_size=8)
    assert calls == [0, 1, 2]
    torch.testing.assert_close(some, everything[:, [2, 0]])
    assert not anatomy.blocks[0]._forward_hooks


def test_refuses_positions_and_layers_outside() -> None:
    anatomy = tiny_anatomy("llama")
    with pytest.raises(ValueError, match=r"prompt 0: position 3 is not in 0..2"):
        residual_at(anatomy, [[5, 6, 7]], [3], batch_size=1)
    with pytest.raises(ValueError, match=r"layer 4 is not in 0..3"):
        residual_at(anatomy, [[5, 6, 7]], [2], batch_size=1, layers=[4])
    with pytest.raises(ValueError, match="1 prompts but 2 positions"):
        residual_at(anatomy, [[5, 6, 7]], [2, 1], batch_size=1)
