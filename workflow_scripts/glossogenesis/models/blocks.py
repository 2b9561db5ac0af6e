"""Run a model's own decoder blocks one at a time, with the product of queries and keys replaced.

transformers looks its attention function up by name for every call. Under a name registered here,
that function hands queries, keys and values (projected, normalised and rotated by the model's own
modules) to the caller, who decides what each query attends to. So a block can run on a few tokens
over keys and values that are kept elsewhere, with no code for single architectures. Only BLOOM,
which does not use that lookup, has an adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy

_ATTENTION_NAME = "glossogenesis_blocks"


@dataclass(frozen=True)
class Context:
    """Keys and values of some tokens at one block."""

    key: Tensor
    """`[prompt or row, kv_head, token, head_dim]`"""
    value: Tensor
    """Same shape as `key`."""

    def copied(self) -> Context:
        """A copy in which each head's tokens lie together, unless they do."""
        return Context(self.key.contiguous(), self.value.contiguous())

    def followed_by(self, other: Context) -> Context:
        """A copy with the tokens of another added."""
        key = torch.cat([self.key, other.key], dim=2)
        return Context(key, torch.cat([self.value, other.value], dim=2))

    def tokens(self, first: int, last: int) -> Context:
        """A view of the tokens `first..last-1`."""
        return Context(self.key[:, :, first:last], self.value[:, :, first:last])


@dataclass(frozen=True)
class AttentionCall:
    """What one block's attention is given for some rows of tokens."""

    query: Tensor
    """`[row, head, token, head_dim]`, not yet scaled."""
    key: Tensor
    """`[row, kv_head, token, head_dim]` of the same tokens."""
    value: Tensor
    """`[row, kv_head, token, head_dim]`"""
    scaling: float
    softcap: float | None
    """Scores become `softcap * tanh(score / softcap)`."""
    window: int | None
    """A query sees only keys less than this many positions before it."""
    slopes: Tensor | None
    """`[head]`, float32: ALiBi adds slope times key position to a score."""
    of_row: Context | None = None
    """Keys and values of all tokens of the rows, where only some have queries."""

    @property
    def own(self) -> Context:
        """Keys and values of the tokens that have queries."""
        return Context(self.key, self.value)

    @property
    def everything(self) -> Context:
        """Keys and values of all tokens of the rows."""
        return self.own if self.of_row is None else self.of_row


Attend = Callable[[AttentionCall], Tensor]
"""From a call to the attended values, `[row, head, token, head_dim]`."""

Tokens = Callable[[Tensor], Tensor]
"""From `[row, token, ...]` to the part of it that belongs to some tokens."""


@dataclass(frozen=True)
class Positions:
    """Token positions of some rows, with the rotary tables that blocks want."""

    ids: Tensor
    """`[row, token]`, int64"""
    rotary: dict[str, tuple[Tensor, Tensor]]
    """Kind of layer to cosines and sines `[row, token, rotary_dim]`."""

    def of(self, chosen: Tokens) -> Positions:
        """The positions of some of the rows, or of some tokens of each."""
        tables = {kind: (chosen(cos), chosen(sin)) for kind, (cos, sin) in self.rotary.items()}
        return Positions(chosen(self.ids), tables)

    def first(self, n_rows: int) -> Positions:
        """The positions of the first rows."""
        return self.of(lambda states: states[:n_rows])


class BlockRunner:
    """Runs single blocks of one model; use within `with runner.attending():`."""

    def __init__(self, anatomy: Anatomy) -> None:
        self.anatomy = anatomy
        self._slopes = _alibi_slopes(anatomy) if anatomy.architecture == "bloom" else None

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Within the context, the model's blocks use the attention that `run` is given."""
        from transformers import AttentionInterface

        AttentionInterface.register(_ATTENTION_NAME, _hand_over)
        config = self.anatomy.config
        before = config._attn_implementation
        if before == _ATTENTION_NAME:
            # Changing it takes as long as a small block.
            yield
            return
        config._attn_implementation = _ATTENTION_NAME
        try:
            yield
        finally:
            config._attn_implementation = before

    def positions(self, ids: Tensor) -> Positions:
        """Rotary tables for position ids `[row, token]`; none for ALiBi or learned positions."""
        rotary_of = getattr(self.anatomy.base, "rotary_emb", None)
        if rotary_of is None:
            return Positions(ids, {})
        like = torch.empty(0, dtype=self.anatomy.dtype, device=ids.device)
        if self.anatomy.architecture == "gemma3_text":
            kinds = set(self.anatomy.config.layer_types)
            return Positions(ids, {kind: rotary_of(like, ids, kind) for kind in kinds})
        return Positions(ids, {"": rotary_of(like, position_ids=ids)})

    def embed(self, token_ids: Tensor, positions: Positions) -> Tensor:
        """What enters the first block, `[row, token, d_model]`."""
        base: Any = self.anatomy.base
        hidden: Tensor = self.anatomy.embedding(token_ids)
        if self.anatomy.architecture == "gpt2":
            hidden = hidden + base.wpe(positions.ids)
        elif self.anatomy.architecture == "bloom":
            hidden = base.word_embeddings_layernorm(hidden)
        return hidden

    def run(
        self,
        layer: int,
        hidden: Tensor,
        positions: Positions,
        attend: Attend,
        wanted: Tokens | None = None,
    ) -> Tensor:
        """Output `[row, token, d_model]` of block `layer` for `hidden` of the same shape.

        Where only some tokens are wanted, the others leave keys and values alone.
        """
        if wanted is not None:
            of_row = self.project(layer, hidden, positions)

            def attend_to_row(call: AttentionCall) -> Tensor:
                return attend(replace(call, of_row=of_row))

            return self.run(layer, wanted(hidden), positions.of(wanted), attend_to_row)
        block: Any = self.anatomy.blocks[layer]
        if self._slopes is not None:
            return _run_bloom_block(block, hidden, self._slopes, attend)
        inputs: dict[str, Any] = {"attention_mask": None, "attend": attend}
        if positions.rotary:
            kind = "" if "" in positions.rotary else self.anatomy.config.layer_types[layer]
            inputs["position_embeddings"] = positions.rotary[kind]
        output = block(hidden, **inputs)
        tensor: Tensor = output if isinstance(output, Tensor) else output[0]
        return tensor

    def run_rest(
        self,
        joining: Callable[[int], Tensor],
        positions: Positions,
        attend_at: Callable[[int, int], Attend],
        wanted: Tokens | None = None,
    ) -> Tensor:
        """Run rows through the rest of the model, each from the block at which it joins.

        Args:
            joining: from a block to what enters it of the rows that join there, `[row, token,
                d_model]`, perhaps none. The number of blocks stands for the end.
            positions: of all rows, in the order in which they join, or one for all.
            attend_at: from a block and the number of its rows to their attention.
            wanted: tokens that the last block gives; see `run`.

        Returns:
            Output of the last block, `[row, token, d_model]`.
        """
        n_layers = self.anatomy.n_layers
        hidden = joining(0)
        for layer in range(n_layers):
            n_rows = len(hidden)
            if n_rows:
                rows = positions.first(n_rows)
                part = wanted if layer == n_layers - 1 else None
                hidden = self.run(layer, hidden, rows, attend_at(layer, n_rows), part)
            new = joining(layer + 1)
            if len(new):
                hidden = torch.cat([hidden, new]) if len(hidden) else new
        return hidden

    def project(self, layer: int, hidden: Tensor, positions: Positions) -> Context:
        """Keys and values `[row, kv_head, token, head_dim]` of block `layer`, and nothing more."""
        try:
            self.run(layer, hidden, positions, _stop_at_projections)
        except _ProjectedError as projected:
            return projected.context
        raise RuntimeError(f"block {layer} ended without calling its attention")


class _ProjectedError(Exception):
    """Leaves a block as soon as its keys and values are there."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context


def _stop_at_projections(call: AttentionCall) -> Tensor:
    raise _ProjectedError(call.own)


def _hand_over(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    attend: Attend,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls; see `AttentionInterface`."""
    call = AttentionCall(
        query=query,
        key=key,
        value=value,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        window=sliding_window,
        slopes=None,
    )
    return attend(call).transpose(1, 2), None


def _alibi_slopes(anatomy: Anatomy) -> Tensor:
    """ALiBi slopes `[head]`: what BLOOM adds at position 1."""
    base: Any = anatomy.base
    two_tokens = torch.ones(1, 2, device=anatomy.device)
    slopes: Tensor = base.build_alibi_tensor(two_tokens, anatomy.n_heads, torch.float32)[:, 0, 1]
    return slopes


def _run_bloom_block(block: Any, hidden: Tensor, slopes: Tensor, attend: Attend) -> Tensor:
    """A BLOOM block by its own modules; its attention is fed by one fused projection."""
    attention = block.self_attention
    normed = block.input_layernorm(hidden)
    fused = attention.query_key_value(normed).unflatten(
        -1, (attention.num_heads, 3, attention.head_dim)
    )
    query, key, value = fused.transpose(1, 2).unbind(dim=3)
    call = AttentionCall(
        query=query,
        key=key,
        value=value,
        scaling=attention.inv_norm_factor,
        softcap=None,
        window=None,
        slopes=slopes,
    )
    attended = attention.dense(attend(call).transpose(1, 2).flatten(2))
    after_norm = block.apply_residual_connection_post_layernorm
    middle = attended + (normed if after_norm else hidden)
    normed = block.post_attention_layernorm(middle)
    output: Tensor = block.mlp(normed, normed if after_norm else middle)
    return output
