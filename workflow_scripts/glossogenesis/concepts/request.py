"""What a patching run is asked and what it answers, whichever engine computes it.

Cross-lingual activation patching (Dumas et al. 2025; Körner et al. 2026): for a start layer `j`,
the output of every block `j..L-1` at one position of a target prompt is overwritten by given
states, and the model goes on from there. Blocks are counted from 0; the state of layer `l` is the
output of block `l` before the final norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy

NO_TOKEN = -1
"""Stands where no token was generated, or no token id is of interest."""

OnBatch = Callable[[int], object]
"""Told after each batch how many prompts were finished in it."""


@dataclass(frozen=True)
class PatchPrompt:
    """A tokenised target prompt and the position whose states are overwritten."""

    token_ids: tuple[int, ...]
    position: int
    """Index of the patched token: the last of the query word. At least one token follows it."""

    def __post_init__(self) -> None:
        if not 0 <= self.position < len(self.token_ids) - 1:
            raise ValueError(
                f"patched position {self.position} of a prompt of {len(self.token_ids)} tokens: at "
                "least one token must follow it"
            )

    @property
    def suffix_length(self) -> int:
        """Number of tokens after the patched one."""
        return len(self.token_ids) - 1 - self.position


@dataclass(frozen=True)
class PatchRequest:
    """Everything that one patching run computes for one model."""

    prompts: tuple[PatchPrompt, ...]
    patches: Tensor
    """`[setting, prompt, layer, d_model]`: the states that overwrite the prompt's own."""
    start_layers: tuple[int, ...]
    """Every run overwrites from one of these to the last layer."""
    token_ids_of_interest: Tensor
    """`[prompt, k]`, int64: tokens whose probability as first answer token is wanted, or -1."""
    generate_at: tuple[int, ...] = ()
    """Start layers at which new tokens are generated; a subset of `start_layers`."""
    max_new_tokens: int = 5
    stop_ids: frozenset[int] = frozenset()
    """Tokens after which a generation ends, such as those that contain the closing quote."""
    include_self: bool = False
    """Adds a last setting whose patches are the prompt's own states: it must equal unpatched."""

    def __post_init__(self) -> None:
        n_settings, n_prompts, n_layers, _ = self.patches.shape
        if n_prompts != len(self.prompts):
            raise ValueError(f"patches for {n_prompts} prompts, but {len(self.prompts)} prompts")
        if self.token_ids_of_interest.shape[0] != n_prompts:
            raise ValueError("token_ids_of_interest needs one row a prompt")
        if n_settings + self.include_self == 0:
            raise ValueError("no setting: give patches or include_self")
        if list(self.start_layers) != sorted(set(self.start_layers)):
            raise ValueError(f"start layers {self.start_layers} must ascend without repeats")
        if any(not 0 <= layer < n_layers for layer in self.start_layers):
            raise ValueError(f"start layers {self.start_layers} must be in 0..{n_layers - 1}")
        if not set(self.generate_at) <= set(self.start_layers):
            raise ValueError(f"generate_at {self.generate_at} must be among the start layers")
        if list(self.generate_at) != sorted(set(self.generate_at)):
            raise ValueError(f"generate_at {self.generate_at} must ascend without repeats")
        if self.max_new_tokens < 1:
            raise ValueError("max_new_tokens must be at least 1")

    @property
    def n_settings(self) -> int:
        """Number of settings, the prompt's own states included."""
        return self.patches.shape[0] + self.include_self

    @property
    def generates(self) -> bool:
        """Whether any new token is wanted."""
        return bool(self.generate_at)

    def patches_for(self, prompts: Sequence[int], own: Tensor) -> Tensor:
        """Patches of some prompts `[setting, prompt, layer, d_model]`, own states last if included.

        Args:
            prompts: indices of the prompts.
            own: their unpatched states `[prompt, layer, d_model]`; decides device and dtype.
        """
        given = self.patches[:, list(prompts)].to(own)
        return torch.cat([given, own[None]]) if self.include_self else given


@dataclass(frozen=True)
class PatchedRun:
    """The answer of a patching run; all tensors on the CPU, prompts in the order of the request."""

    log_probabilities: Tensor
    """`[setting, prompt, start_layer, k]`, float32, natural logarithm; -inf where none is asked."""
    generated: Tensor
    """`[setting, prompt, generate_at, max_new_tokens]`, int64, -1 after a stop token."""
    unpatched_log_probabilities: Tensor
    """`[prompt, k]`, float32."""
    unpatched_generated: Tensor
    """`[prompt, max_new_tokens]`, int64; all -1 where nothing is generated."""
    residual_at_position: Tensor
    """`[prompt, layer, d_model]`: the unpatched states at the patched position, model's dtype."""

    @classmethod
    def empty(cls, anatomy: Anatomy, request: PatchRequest) -> PatchedRun:
        """A run to be filled in, with no token generated."""
        n_prompts, k = request.token_ids_of_interest.shape
        settings = request.n_settings
        shape = (settings, n_prompts, len(request.generate_at), request.max_new_tokens)
        return cls(
            log_probabilities=torch.empty(settings, n_prompts, len(request.start_layers), k),
            generated=torch.full(shape, NO_TOKEN),
            unpatched_log_probabilities=torch.empty(n_prompts, k),
            unpatched_generated=torch.full((n_prompts, request.max_new_tokens), NO_TOKEN),
            residual_at_position=torch.empty(
                n_prompts, anatomy.n_layers, anatomy.d_model, dtype=anatomy.dtype
            ),
        )


def pad_token_ids(token_ids: Sequence[Sequence[int]]) -> Tensor:
    """Token ids of interest of each prompt as one tensor `[prompt, k]`, padded with -1."""
    width = max((len(ids) for ids in token_ids), default=0)
    padded = [[*ids, *[NO_TOKEN] * (width - len(ids))] for ids in token_ids]
    return torch.tensor(padded, dtype=torch.int64).reshape(len(token_ids), width)


def check_fits(anatomy: Anatomy, request: PatchRequest) -> None:
    """Check a request's shapes against the model.

    Raises:
        ValueError: they differ.
    """
    expected = (anatomy.n_layers, anatomy.d_model)
    if tuple(request.patches.shape[2:]) != expected:
        raise ValueError(
            f"patches of shape {tuple(request.patches.shape)} for a model of {expected[0]} layers "
            f"and width {expected[1]}"
        )
