"""What a patching run is asked and answers, the plain way to compute it, and its identities.

Cross-lingual activation patching (Dumas et al. 2025; Körner et al. 2026): for a start layer `j`,
the output of every block `j..L-1` at one position of a target prompt is overwritten by given
states, and the model goes on from there. Blocks are counted from 0; the state of layer `l` is the
output of block `l` before the final norm.

This is what the fast engine is tested and measured against.

What rounding explains in the shorter number formats is far more than the effects that are measured.
So some rows of every run are computed in float32 too, where the tolerance is tight, and what was
found there is recorded with the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glossogenesis.exceptions import NotFiniteError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.batches import batches_by_length, pad_left
from glossogenesis.models.capture import (
    answer,
    block_output,
    check_equal,
    is_stop,
    residual_at,
    watched_blocks,
)

NO_TOKEN = -1
"""Stands where no token was generated, or no token id is of interest."""

OnBatch = Callable[[int], object]
"""Called after each batch with how many prompts were finished in it."""


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
            raise ValueError("token_ids_of_interest needs one row per prompt")
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


@dataclass(frozen=True)
class _Rows:
    """What runs in one forward pass: prompts, each with its own patch."""

    prompts: Sequence[PatchPrompt]
    patches: Tensor
    """`[row, layer, d_model]`"""
    start_layers: Tensor
    """`[row]`; the number of layers stands for no patch."""
    token_ids: Tensor
    """`[row, k]`"""


@torch.inference_mode()
def run_reference(
    anatomy: Anatomy, request: PatchRequest, *, batch_size: int, on_batch: OnBatch | None = None
) -> PatchedRun:
    """Compute a request with forward hooks, `batch_size` full prompts in one forward pass."""
    check_fits(anatomy, request)
    run = PatchedRun.empty(anatomy, request)
    run.residual_at_position[:] = residual_at(
        anatomy,
        [prompt.token_ids for prompt in request.prompts],
        [prompt.position for prompt in request.prompts],
        batch_size=batch_size,
    )
    lengths = [len(prompt.token_ids) for prompt in request.prompts]
    for batch in batches_by_length(lengths, batch_size):
        _fill_in(run, anatomy, request, batch, batch_size)
        if on_batch is not None:
            on_batch(len(batch))
    return run


def _fill_in(
    run: PatchedRun,
    anatomy: Anatomy,
    request: PatchRequest,
    batch: Sequence[int],
    batch_size: int,
) -> None:
    """Compute every setting and start layer of some prompts, and the unpatched prompts."""
    own = run.residual_at_position[batch].to(anatomy.device)
    patches = request.patches_for(batch, own)
    settings = range(request.n_settings)
    unpatched = [(0, anatomy.n_layers, at) for at in range(len(batch))]
    jobs = [
        (s, layer, at)
        for s in settings
        for layer in request.start_layers
        for at in range(len(batch))
    ]
    generating = {*request.generate_at, anatomy.n_layers} if request.generates else set()
    for generate in (False, True):
        wanted = [job for job in unpatched + jobs if (job[1] in generating) == generate]
        for first in range(0, len(wanted), batch_size):
            part = wanted[first : first + batch_size]
            at = [job[2] for job in part]
            rows = _Rows(
                prompts=[request.prompts[batch[index]] for index in at],
                patches=patches[[job[0] for job in part], at],
                start_layers=torch.tensor([job[1] for job in part], device=anatomy.device),
                token_ids=request.token_ids_of_interest[[batch[i] for i in at]].to(anatomy.device),
            )
            chosen, generated = _run_rows(anatomy, rows, request, generate=generate)
            for row, (setting, layer, index) in enumerate(part):
                _store(run, request, (setting, layer, batch[index]), chosen[row], generated[row])


def _store(
    run: PatchedRun,
    request: PatchRequest,
    where: tuple[int, int, int],
    chosen: Tensor,
    generated: Tensor,
) -> None:
    """Put one row of results where its setting, start layer and prompt say."""
    setting, layer, prompt = where
    if layer not in request.start_layers:
        run.unpatched_log_probabilities[prompt] = chosen
        run.unpatched_generated[prompt] = generated
        return
    run.log_probabilities[setting, prompt, request.start_layers.index(layer)] = chosen
    if layer in request.generate_at:
        run.generated[setting, prompt, request.generate_at.index(layer)] = generated


def _run_rows(
    anatomy: Anatomy, rows: _Rows, request: PatchRequest, *, generate: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities `[row, k]` and generated tokens `[row, max_new_tokens]`, on the CPU."""
    padded = pad_left([prompt.token_ids for prompt in rows.prompts], anatomy.device)
    columns = padded.columns([prompt.position for prompt in rows.prompts])
    with _patched(anatomy, rows, columns):
        output = anatomy.base(**padded.model_inputs(anatomy), use_cache=generate)
    chosen, token = _answer(anatomy, output, rows)
    generated = torch.full((len(token), request.max_new_tokens), NO_TOKEN, device=token.device)
    if generate:
        finished = torch.zeros_like(token, dtype=torch.bool)
        mask, position = padded.mask, padded.position_ids[:, -1:]
        for step in range(request.max_new_tokens):
            generated[:, step] = token.masked_fill(finished, NO_TOKEN)
            finished = finished | is_stop(token, request.stop_ids)
            if step + 1 == request.max_new_tokens or bool(finished.all()):
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            position = position + 1
            inputs = {"position_ids": position} if anatomy.takes_position_ids else {}
            output = anatomy.base(
                input_ids=token[:, None],
                attention_mask=mask,
                past_key_values=output.past_key_values,
                use_cache=True,
                **inputs,
            )
            _, token = _answer(anatomy, output, rows)
    return chosen.cpu(), generated.cpu()


@contextmanager
def _patched(anatomy: Anatomy, rows: _Rows, columns: Tensor) -> Iterator[None]:
    """Within the context, every block from a row's start layer on has its output overwritten."""
    index = torch.arange(len(rows.prompts), device=columns.device)

    def overwrite(layer: int, output: Any) -> None:
        states = block_output(output)
        patched = (rows.start_layers <= layer)[:, None]
        states[index, columns] = torch.where(
            patched, rows.patches[:, layer], states[index, columns]
        )

    with watched_blocks(anatomy, range(anatomy.n_layers), overwrite):
        yield


def _answer(anatomy: Anatomy, output: Any, rows: _Rows) -> tuple[Tensor, Tensor]:
    """Log-probabilities `[row, k]` and greedy tokens `[row]` at the last column."""
    return answer(anatomy, output.last_hidden_state[:, -1], rows.token_ids, normed=True)


def check_identities(run: PatchedRun, request: PatchRequest, anatomy: Anatomy, where: str) -> float:
    """Check a run whose last setting patches each prompt's own states.

    - Patching a prompt's own states, from any start layer, changes nothing.
    - Patching from the last layer changes nothing at the answer: no later block reads the position.

    Log-probabilities agree within rounding; in float32, generated tokens are equal too. Returns the
    largest difference.

    Raises:
        NotFiniteError: a log-probability is NaN or infinite, so that there is nothing to compare.
        RuntimeError: an identity fails, which is a fault of the program or the model's code.

    """
    unpatched = run.unpatched_log_probabilities
    asked = request.token_ids_of_interest.to(unpatched.device) >= 0
    dtype = str(anatomy.dtype).removeprefix("torch.")
    if not bool(unpatched[asked].isfinite().all()):
        raise NotFiniteError.of_model(where, "log-probabilities of unpatched prompts", dtype)

    def check(patched: Tensor, expected: Tensor, what: str) -> float:
        there = torch.isfinite(expected).expand_as(patched)
        what = f"{where}: {what} differs from unpatched in log-probability"
        return check_equal((patched - expected)[there], anatomy, what, "patched runs")

    largest = check(run.log_probabilities[-1], unpatched[:, None], "`self`")
    last = anatomy.n_layers - 1
    if last in request.start_layers:
        at_last = run.log_probabilities[:, :, request.start_layers.index(last)]
        largest = max(largest, check(at_last, unpatched[None], "patching from the last layer"))
    if request.generate_at and anatomy.dtype == torch.float32:
        own = run.generated[-1]
        differs = (own != run.unpatched_generated[:, None]).any(dim=-1)
        if differs.any():
            prompt, place = differs.nonzero()[0].tolist()
            raise RuntimeError(
                f"{where}: patching prompt {prompt}'s own states from layer "
                f"{request.generate_at[place]} changed its answer; patched runs cannot be trusted"
            )
    by_prompt = run.log_probabilities.movedim(1, 0).movedim(-1, 1)
    if not bool(by_prompt[asked].isfinite().all()):
        raise NotFiniteError.of_model(where, "log-probabilities of patched prompts", dtype)
    return largest
