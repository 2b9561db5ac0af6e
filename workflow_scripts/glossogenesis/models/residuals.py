"""The residual stream at every kept token of a corpus: all layers from one pass of the model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor

from glossogenesis.corpora.tokenised import ContextBlock, TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.models.activation_order import window_order
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.batches import (
    batches_of_contexts,
    context_windows,
    last_tokens,
    lengths_of,
)
from glossogenesis.models.capture import block_output, run_up_to
from glossogenesis.storage.activations.cache import ID_DTYPES, STORED_DTYPES, ActivationRows

NotFinite = Literal["stop", "drop"]
Positions = Literal["all", "last"]


@dataclass(frozen=True)
class Window:
    """Tokens that are shuffled together, with the residual stream of several layers."""

    number: int
    """Counted from 0 in its split."""
    activations: Mapping[int, Tensor]
    """By layer, `[row, d_model]` in the stored dtype; the same rows for every layer."""
    ids: Mapping[str, Tensor]
    """`[row]` each; names and dtypes are those of `storage.activations.cache.ID_DTYPES`."""
    dropped_rows: int
    """Tokens left out because an activation of some layer is NaN or infinite."""

    def __len__(self) -> int:
        return len(self.ids["token_ids"])

    def rows_of(self, layer: int) -> ActivationRows:
        """Activations of one layer with their ids."""
        return ActivationRows.of(self.activations[layer], self.ids)


def residual_windows(
    anatomy: Anatomy,
    corpus: TokenisedCorpus,
    split: str,
    layers: Sequence[int],
    *,
    window: int,
    seed: int,
    batch_size: int,
    dtype: str,
    not_finite: NotFinite,
    positions: Positions = "all",
    section: str = "features",
    described_as: str = "the model",
    skip: Collection[int] = (),
    device: torch.device | None = None,
    on_batch: Callable[[int], object] | None = None,
) -> Iterator[Window]:
    """Windows of one split: shuffled inside by a seeded order in `train`, else in corpus order.

    The forward pass ends after the last wanted block: neither the blocks after it, nor the final
    norm, nor the head run. Contexts of similar length share a batch, padded on the right and
    masked. Windows do not depend on each other, so leaving some out changes none of the others.

    Args:
        anatomy: the model.
        corpus: contexts of token ids.
        split: `train` or `held_out`.
        layers: the wanted layers.
        window: kept tokens of a window at most; contexts are not split, so windows have up to one
            context fewer, and one that has more is a window of its own.
        seed: seed of the order inside windows.
        batch_size: contexts in one forward pass.
        dtype: `bfloat16` or `float32`, in which activations are given.
        not_finite: `stop`, or `drop` the tokens whose activation at some wanted layer is NaN or
            infinite.
        positions: `all` kept tokens, or only the `last` token of each context, special or not.
        section: section of the study that has the settings, for messages.
        described_as: model and checkpoint, for messages.
        skip: numbers of windows that are not computed.
        device: where windows are kept; on the CPU where None. All layers of one are in memory.
        on_batch: called with how many kept tokens, whether finite or not, each forward pass read.

    Raises:
        StudyError: activations are not finite and `not_finite` is `stop`, the model lacks a layer,
            or the corpus is damaged.
    """
    check_layers(anatomy, layers, described_as)
    blocks = corpus.blocks(split, max(1, window // corpus.context))
    if positions == "last":
        blocks = map(last_tokens, blocks)
    for number, block in enumerate(context_windows(blocks, window)):
        if number in skip:
            continue
        _check_token_ids(anatomy, block, described_as)
        n_rows = int(block.kept.sum())
        order = torch.arange(n_rows)
        if split == "train":
            order = window_order(n_rows, seed=seed, number=number)
        rows = {
            layer: torch.empty(n_rows, anatomy.d_model, dtype=STORED_DTYPES[dtype], device=device)
            for layer in layers
        }
        finite = _fill(anatomy, block, _slots_of(block.kept, order), rows, batch_size, on_batch)
        ids = {name: ids[order] for name, ids in _ids_of(block).items()}
        if finite is None:
            yield Window(number, rows, ids, dropped_rows=0)
            continue
        if not_finite == "stop":
            where = f"{described_as}, {split} split"
            raise StudyError(_not_finite_at(finite, ids, where, section))
        yield _without(Window(number, rows, ids, dropped_rows=0), finite)


def _fill(
    anatomy: Anatomy,
    block: ContextBlock,
    slots: Tensor,
    rows: Mapping[int, Tensor],
    batch_size: int,
    on_batch: Callable[[int], object] | None,
) -> dict[int, Tensor] | None:
    """Run the model over all contexts and put each kept token's activations into its row.

    Args:
        anatomy: the model.
        block: the contexts of the window.
        slots: `[context, position]`, the row of each kept token, -1 for others.
        rows: by layer, `[row, d_model]`, to be filled.
        batch_size: contexts in one forward pass.
        on_batch: as of `residual_windows`.

    Returns:
        By layer, which rows are finite, `[row]`, bool; None where all are.
    """
    lengths = lengths_of(block)
    finite = True
    for batch in batches_of_contexts(lengths, batch_size):
        width = max(1, int(lengths[batch].max()))
        slots_of_batch = slots[batch, :width].flatten()
        columns = (slots_of_batch >= 0).nonzero().squeeze(1)
        if not len(columns):
            continue
        mask = torch.arange(width) < lengths[batch, None]
        finite &= scatter_residuals(
            anatomy,
            block.token_ids[batch, :width].long(),
            None if bool(mask.all()) else mask.long(),
            Destination(columns, slots_of_batch[columns], rows),
        )
        if on_batch is not None:
            on_batch(len(columns))
    if finite:
        return None
    by_layer = {layer: of_layer.isfinite().all(dim=1).cpu() for layer, of_layer in rows.items()}
    # A sum can overflow where no term is infinite.
    return None if all(bool(each.all()) for each in by_layer.values()) else by_layer


def _slots_of(kept: Tensor, order: Tensor) -> Tensor:
    """Row `[context, position]` of each kept token in a window of this order; -1 elsewhere."""
    slots = torch.full(kept.shape, -1, dtype=torch.int64)
    slots[kept] = torch.argsort(order)
    return slots


def _ids_of(block: ContextBlock) -> dict[str, Tensor]:
    """Ids `[row]` of the kept tokens in the order of the corpus."""
    contexts = torch.arange(block.first, block.first + len(block.kept))[:, None]
    grids = {
        "token_ids": block.token_ids,
        "documents": block.documents,
        "positions": block.positions,
        "contexts": contexts.expand_as(block.kept),
        "columns": torch.arange(block.kept.shape[1]).expand_as(block.kept),
        "languages": block.languages,
        "token_languages": block.token_languages,
    }
    return {name: grids[name][block.kept].to(dtype) for name, dtype in ID_DTYPES.items()}


def _without(window: Window, finite: Mapping[int, Tensor]) -> Window:
    """The window without the tokens that are not finite at some layer."""
    kept = reduce(torch.logical_and, finite.values())
    return Window(
        window.number,
        {layer: rows[kept.to(rows.device)] for layer, rows in window.activations.items()},
        {name: ids[kept] for name, ids in window.ids.items()},
        dropped_rows=int((~kept).sum()),
    )


def _not_finite_at(
    finite: Mapping[int, Tensor], ids: Mapping[str, Tensor], described_as: str, section: str
) -> str:
    layer = min(layer for layer, rows in finite.items() if not bool(rows.all()))
    bad = ~finite[layer]
    places = torch.stack([ids["contexts"][bad], ids["columns"][bad]], dim=1).tolist()
    context, column = min(places)
    return (
        f"{described_as}: activations of layer {layer} are NaN or infinite at {len(places)} "
        f"tokens of a window, the first at position {column} of context {context}; check the "
        "checkpoint's weights and the model's `dtype`, or leave such tokens out with "
        f"`{section}.activations.not_finite: drop`"
    )


def _check_token_ids(anatomy: Anatomy, block: ContextBlock, described_as: str) -> None:
    vocabulary = next(anatomy.embedding.parameters()).shape[0]
    if (largest := int(block.token_ids.max())) >= vocabulary:
        raise StudyError(
            f"{described_as}: the corpus has token id {largest}, but the model embeds only "
            f"{vocabulary} tokens; its tokenizer belongs to another model"
        )


def check_layers(anatomy: Anatomy, layers: Sequence[int], described_as: str) -> None:
    """StudyError where a layer is wanted that the model lacks."""
    if not layers:
        raise ValueError("no layer is wanted")
    for layer in layers:
        if not 0 <= layer < anatomy.n_layers:
            raise StudyError(
                f"{described_as}: has no layer {layer}, only 0 to {anatomy.n_layers - 1}; fix "
                "the model's `layers` in the study"
            )


@dataclass(frozen=True)
class Destination:
    """Which tokens of a batch are kept, and the rows that their activations go to."""

    columns: Tensor
    """`[kept]`, int64: indices of the kept tokens in the flattened batch, on the CPU."""
    slots: Tensor
    """`[kept]`, int64: the row of each of them, on the CPU."""
    rows: Mapping[int, Tensor]
    """By wanted layer, `[row, d_model]`, in the dtype and on the device where they are kept."""


@torch.inference_mode()
def scatter_residuals(
    anatomy: Anatomy, token_ids: Tensor, mask: Tensor | None, destination: Destination
) -> bool:
    """Run the blocks up to the last wanted one; neither the final norm nor the head runs.

    Each layer's activations are cast and put into their rows by the hook that sees them, so that
    no second copy of a window is made.

    Args:
        anatomy: the model.
        token_ids: `[context, position]`, int64, on the CPU.
        mask: same shape, int64, 1 at tokens and 0 at padding, which is on the right; None where
            nothing is padded.
        destination: what is kept, and where.

    Returns:
        Whether all activations that were put into rows are finite.
    """
    inputs: dict[str, Any] = {"input_ids": token_ids.to(anatomy.device), "use_cache": False}
    if mask is not None:
        inputs["attention_mask"] = mask.to(anatomy.device)
    scatter = _Scatter(anatomy, destination)
    run_up_to(anatomy, inputs, list(destination.rows), scatter.see)
    return scatter.finish()


class _Scatter:
    """What hooks of one forward pass share."""

    def __init__(self, anatomy: Anatomy, destination: Destination) -> None:
        self._rows = destination.rows
        self._slots = destination.slots
        self._columns = destination.columns.to(anatomy.device)
        self._slots_beside_model = destination.slots.to(anatomy.device)
        self._sums: list[Tensor] = []
        self._arriving: dict[int, Tensor] = {}

    def see(self, layer: int, output: Any) -> None:
        """Keep the residual stream `[context, position, d_model]` in what one block returns."""
        flat = block_output(output).flatten(0, 1)
        if len(self._columns) < len(flat):
            flat = flat.index_select(0, self._columns)
        rows = self._rows[layer]
        # A sum is finite only where all its terms are: one number to look at instead of all.
        self._sums.append(flat.sum(dtype=torch.float32))
        flat = flat.to(rows.dtype)
        if flat.device == rows.device:
            rows.index_copy_(0, self._slots_beside_model, flat)
        else:
            # The GPU goes on with the next block while this one's copy is under way.
            self._arriving[layer] = flat.to(rows.device, non_blocking=True)

    def finish(self) -> bool:
        """Put what is still arriving into its rows; return whether everything is finite."""
        # Reading the sums waits for the GPU, and so for the copies that were started before.
        finite = bool(torch.stack(self._sums).isfinite().all())
        for layer, arrived in self._arriving.items():
            self._rows[layer].index_copy_(0, self._slots, arrived)
        return finite


def hook_name(anatomy: Anatomy, layer: int) -> str:
    """Dotted name of a block in the whole model, such as `model.layers.3`."""
    block = anatomy.blocks[layer]
    names: dict[Any, str] = {module: name for name, module in anatomy.model.named_modules()}
    return names[block]
