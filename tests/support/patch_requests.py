"""Random patching requests for tiny models."""

from __future__ import annotations

import torch

from glossogenesis.concepts.request import PatchedRun, PatchPrompt, PatchRequest
from glossogenesis.models.anatomy import Anatomy
from support.tiny_models import VOCABULARY, random_tokens

SUFFIXES = [3, 5, 5, 3, 5]
LENGTHS = [9, 17, 12, 14, 17]


def ragged_prompts() -> tuple[PatchPrompt, ...]:
    """Prompts of different lengths and suffix lengths."""
    return tuple(
        PatchPrompt(tuple(ids), len(ids) - 1 - suffix)
        for ids, suffix in zip(random_tokens(LENGTHS), SUFFIXES, strict=True)
    )


def request_for(
    anatomy: Anatomy,
    *,
    prompts: tuple[PatchPrompt, ...] | None = None,
    start_layers: tuple[int, ...] = (0, 1, 2, 3),
    generate_at: tuple[int, ...] = (0, 1, 2, 3),
    stop_ids: frozenset[int] = frozenset(),
    include_self: bool = True,
) -> PatchRequest:
    """A request with two settings of random patches of the size of the model's own states."""
    prompts = ragged_prompts() if prompts is None else prompts
    generator = torch.Generator().manual_seed(1)
    shape = (2, len(prompts), anatomy.n_layers, anatomy.d_model)
    tokens = torch.randint(3, VOCABULARY, (len(prompts), 3), generator=generator)
    tokens[0, 1] = -1
    return PatchRequest(
        prompts=prompts,
        patches=3 * torch.randn(shape, generator=generator),
        start_layers=start_layers,
        token_ids_of_interest=tokens,
        generate_at=generate_at,
        max_new_tokens=4,
        stop_ids=stop_ids,
        include_self=include_self,
    )


def assert_equal_runs(left: PatchedRun, right: PatchedRun) -> None:
    """Probabilities and states to 1e-4, tokens exactly."""
    for name in ("log_probabilities", "unpatched_log_probabilities", "residual_at_position"):
        torch.testing.assert_close(
            getattr(left, name), getattr(right, name), rtol=1e-4, atol=1e-4, msg=name
        )
    assert torch.equal(left.generated, right.generated)
    assert torch.equal(left.unpatched_generated, right.unpatched_generated)
