"""Read and change a model's residual stream; what follows, what is answered, how exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.batches import batches_by_length, pad_left

_LOGITS_AT_ONCE = 1 << 25

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}
"""Largest difference of log-probabilities that rounding explains, by number format."""


@torch.inference_mode()
def residual_at(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    *,
    batch_size: int,
    layers: Sequence[int] | None = None,
    on_batch: Callable[[int], object] | None = None,
) -> Tensor:
    """Residual stream after the wanted blocks at one position of each prompt.

    The forward pass ends after the last wanted block, so neither the final norm nor the head runs.
    Each prompt is cut after its position, since later tokens cannot change it.

    Args:
        anatomy: the model.
        token_ids: prompts; lengths may differ.
        positions: for each prompt, the index of the wanted token in it.
        batch_size: prompts in one forward pass; it does not change the result.
        layers: the wanted layers in the order of the result; all of them where None.
        on_batch: called with how many prompts each pass finished.

    Returns:
        `[prompt, layer, d_model]` on the CPU, in the model's dtype, prompts in the order given.

    Raises:
        ValueError: a position or layer is outside its prompt or model.
    """
    wanted = list(range(anatomy.n_layers) if layers is None else layers)
    _check(anatomy, token_ids, positions, wanted)
    result = torch.empty(len(token_ids), len(wanted), anatomy.d_model, dtype=anatomy.dtype)
    cut = [list(ids[: position + 1]) for ids, position in zip(token_ids, positions, strict=True)]
    for batch in batches_by_length([len(ids) for ids in cut], batch_size):
        padded = pad_left([cut[index] for index in batch], anatomy.device)
        inputs = {**padded.model_inputs(anatomy), "use_cache": False}
        captured = read_layers(anatomy, inputs, wanted, lambda stream: stream[:, -1])
        result[batch] = torch.stack([captured[layer] for layer in wanted], dim=1).cpu()
        if on_batch is not None:
            on_batch(len(batch))
    return result


def read_layers(
    anatomy: Anatomy,
    inputs: Mapping[str, Any],
    layers: Sequence[int],
    part: Callable[[Tensor], Tensor] = lambda stream: stream,
) -> dict[int, Tensor]:
    """A copy of the residual stream after the blocks of some layers, by layer; see `run_up_to`.

    Args:
        anatomy: the model.
        inputs: keyword arguments of the model's forward pass.
        layers: the wanted layers, at least one.
        part: what is kept of a stream `[prompt, column, d_model]`; all of it by default.
    """
    streams: dict[int, Tensor] = {}

    def keep(layer: int, output: Any) -> None:
        # A model may go on to change the tensor in place.
        streams[layer] = part(block_output(output)).clone()

    run_up_to(anatomy, inputs, layers, keep)
    return streams


def run_up_to(
    anatomy: Anatomy,
    inputs: Mapping[str, Any],
    layers: Sequence[int],
    watch: Callable[[int, Any], None],
) -> None:
    """Run a forward pass that ends after the highest of `layers`, by an internal exception.

    `watch` is as of `watched_blocks`. A cache of keys and values among the `inputs`, which are the
    pass' keyword arguments, grows in the blocks that ran.
    """
    last = max(layers)

    def watch_and_end(layer: int, output: Any) -> None:
        watch(layer, output)
        if layer == last:
            raise _LastLayerError

    with watched_blocks(anatomy, layers, watch_and_end):
        try:
            anatomy.base(**inputs)
        except _LastLayerError:
            return
    raise AssertionError("the last wanted block did not run")


@contextmanager
def watched_blocks(
    anatomy: Anatomy, layers: Iterable[int], watch: Callable[[int, Any], Any]
) -> Iterator[None]:
    """Within the context, `watch` is given each wanted layer and what its block returns.

    What `watch` returns stands in for it, but for None.
    """

    def hook_for(layer: int) -> Any:
        return lambda module, inputs, output: watch(layer, output)

    handles = [
        anatomy.blocks[layer].register_forward_hook(hook_for(layer)) for layer in set(layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def block_output(output: Any) -> Tensor:
    """The residual stream in what a block returns: a tensor, or a tuple that starts with it."""
    tensor: Tensor = output if isinstance(output, Tensor) else output[0]
    return tensor


@contextmanager
def changed_layer(
    anatomy: Anatomy, layer: int, change: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Within the context, `change` maps the output `[prompt, column, d_model]` of one block."""

    def replace(layer: int, output: Any) -> Any:
        stream = change(block_output(output))
        return stream if isinstance(output, Tensor) else (stream, *output[1:])

    with watched_blocks(anatomy, [layer], replace):
        yield


class _LastLayerError(Exception):
    """Ends a forward pass after the last wanted block."""


def _check(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    layers: Sequence[int],
) -> None:
    if len(token_ids) != len(positions):
        raise ValueError(f"{len(token_ids)} prompts but {len(positions)} positions")
    for index, (ids, position) in enumerate(zip(token_ids, positions, strict=True)):
        if not 0 <= position < len(ids):
            raise ValueError(f"prompt {index}: position {position} is not in 0..{len(ids) - 1}")
    for layer in layers:
        if not 0 <= layer < anatomy.n_layers:
            raise ValueError(f"layer {layer} is not in 0..{anatomy.n_layers - 1}")
    if not layers:
        raise ValueError("no layer is wanted")


def answer(
    anatomy: Anatomy, hidden: Tensor, token_ids: Tensor, *, normed: bool = False
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of some tokens, and the most probable token.

    Runs the head over rows in chunks, so the vocabulary never stands in memory for all of them.

    Args:
        anatomy: the model.
        hidden: `[row, d_model]` after the last block or, with `normed`, after the final norm.
        token_ids: `[row, k]`, int64; -1 stands for no token.
        normed: whether the final norm has been applied.

    Returns:
        Log-probabilities `[row, k]`, float32, -inf where there is no token; greedy tokens `[row]`.
    """
    to_logits = anatomy.logits_of_normed if normed else anatomy.logits
    log_probabilities = torch.empty(token_ids.shape, device=hidden.device)
    greedy = torch.empty(hidden.shape[0], dtype=torch.int64, device=hidden.device)
    rows = max(1, _LOGITS_AT_ONCE // int(anatomy.config.vocab_size))
    for start in range(0, hidden.shape[0], rows):
        chunk = slice(start, start + rows)
        logits = to_logits(hidden[chunk]).float()
        greedy[chunk] = logits.argmax(dim=-1)
        ids = token_ids[chunk]
        if ids.shape[1]:
            chosen = logits.gather(1, ids.clamp(min=0)) - logits.logsumexp(dim=-1, keepdim=True)
            log_probabilities[chunk] = chosen.masked_fill(ids < 0, float("-inf"))
    return log_probabilities, greedy


def is_stop(tokens: Tensor, stop_ids: frozenset[int]) -> Tensor:
    """Whether each token ends its generation; same shape as `tokens`, bool."""
    stops = torch.tensor(sorted(stop_ids), dtype=torch.int64, device=tokens.device)
    return torch.isin(tokens, stops)


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Hold a model's weights in float32 within the block.

    Float32 has every number of the shorter formats, so that afterwards the weights are the same to
    the last bit. Meanwhile they take up to twice the memory; nothing is loaded again.
    """
    tensors = [*model.parameters(), *model.buffers()]
    formats = [tensor.dtype for tensor in tensors]
    try:
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(torch.float32)
        yield
    finally:
        for tensor, dtype in zip(tensors, formats, strict=True):
            tensor.data = tensor.data.to(dtype)


@dataclass(frozen=True)
class CheckedInFloat32:
    """The rows of a run that were computed in float32 too, as its provenance tells them."""

    rows: int
    """Prompts, pairs or posts."""
    largest: float
    """Largest difference where equal numbers must come; at most the tolerance of float32."""

    @property
    def facts(self) -> dict[str, dict[str, float]]:
        """For `Provenance.facts`."""
        return {"identities_in_float32": {"rows": self.rows, "largest": self.largest}}


def check_equal(difference: Tensor, anatomy: Anatomy, what: str, untrusted: str) -> float:
    """Return the largest of some differences where equal numbers must come; 0 of none.

    Messages are `what`, such as "ablating nothing changes a logit", and what cannot be trusted.

    Raises:
        RuntimeError: it is more than rounding explains in the model's number format, or NaN.
    """
    largest = float(difference.abs().max()) if difference.numel() else 0.0
    if not largest <= TOLERANCE[anatomy.dtype]:
        raise RuntimeError(
            f"{what} by {largest:.2g}, where equal numbers must come; {untrusted} cannot be trusted"
        )
    return largest
