"""Greedy generation for many patched rows of the same prompts.

The states of a new token up to a row's start layer do not depend on its patch: they are those of
the unpatched prompt followed by the tokens generated so far. Rows of one prompt that have generated
the same tokens therefore share this lower part. It is computed once for each history, and a row
branches off after the block of its start layer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.concepts.request import NO_TOKEN
from glossogenesis.models.blocks import Attend, AttentionCall, BlockRunner, Context, Positions
from glossogenesis.models.capture import answer, is_stop
from glossogenesis.models.prefill import Prefill
from glossogenesis.models.shared_attention import RowLayout


@dataclass(frozen=True)
class GeneratingRows:
    """Rows that generate, in ascending order of their start layers."""

    start_layers: Sequence[int]
    """The last layer stands for rows that no patch changes."""
    prompts: Sequence[int]
    """Index of each row's prompt in the prefill."""
    first_tokens: Tensor
    """`[row]`: the first answer token, chosen already."""
    own: Sequence[Context]
    """For each layer, the keys and values of the rows that start below it; see `Sweep.own`."""


@dataclass(frozen=True)
class _History:
    """Distinct token histories of the prompts, in descending order of depth."""

    prompts: list[int]
    depths: list[int]
    """The highest layer at which each is needed: the highest start layer of its rows."""
    contexts: list[Context]
    """For each layer, keys and values of the new tokens, `[history, kv_head, token, head_dim]`,
    of the histories that are needed there."""


def generate(
    runner: BlockRunner,
    before: Prefill,
    rows: GeneratingRows,
    max_new_tokens: int,
    stop_ids: frozenset[int],
) -> Tensor:
    """Generate greedily; within `runner.attending()`. A row that ends is dropped.

    Returns:
        `[row, max_new_tokens]`, int64, -1 after a stop token, on the model's device.
    """
    tokens = rows.first_tokens
    generated = torch.full((len(tokens), max_new_tokens), NO_TOKEN, device=tokens.device)
    generated[:, 0] = tokens
    decoder = _Decoder(runner, before, rows)
    places = torch.arange(len(tokens), device=tokens.device)
    for step in range(1, max_new_tokens):
        going = (~is_stop(tokens, stop_ids)).nonzero()[:, 0]
        if len(going) == 0:
            break
        if len(going) < len(tokens):
            decoder.drop_all_but(going)
            tokens, places = tokens[going], places[going]
        tokens = decoder.step(tokens)
        generated[places, step] = tokens
    return generated


class _Decoder:
    """What generation carries from token to token."""

    def __init__(self, runner: BlockRunner, before: Prefill, rows: GeneratingRows) -> None:
        self._runner = runner
        self._before = before
        self._starts = list(rows.start_layers)
        self._prompts = list(rows.prompts)
        self._own = list(rows.own)
        self._n_generated = 0
        n_layers = runner.anatomy.n_layers
        none = [before.contexts[layer].tokens(0, 0) for layer in range(n_layers)]
        self._history = _History(list(range(before.n_prompts)), [n_layers] * before.n_prompts, none)
        self._history_of = list(rows.prompts)
        self._device = rows.first_tokens.device

    def drop_all_but(self, going: Tensor) -> None:
        """Forget every row that is not in `going`, ascending indices."""
        kept = going.tolist()
        for layer, own in enumerate(self._own):
            n_there = bisect_left(kept, self._n_below(layer))
            chosen = going[:n_there]
            self._own[layer] = Context(own.key[chosen], own.value[chosen])
        self._starts = [self._starts[row] for row in kept]
        self._prompts = [self._prompts[row] for row in kept]
        self._history_of = [self._history_of[row] for row in kept]

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token `[row]` to each row; returns the next `[row]`."""
        self._n_generated += 1
        shared = self._extend_histories(tokens.tolist())
        n_replaced = self._before.last_positions.shape[1]

        def joining(layer: int) -> Tensor:
            first, last = self._n_below(layer - 1), self._n_below(layer)
            return shared[layer - 1][self._history_of[first:last]]

        def attend_at(layer: int, n_rows: int) -> Attend:
            own = self._own[layer].tokens(0, n_replaced + self._n_generated)
            return self._attend_at(layer, own, self._prompts[:n_rows], after=n_replaced)

        hidden = self._runner.run_rest(joining, self._positions(self._prompts), attend_at)
        nothing = torch.empty(len(hidden), 0, dtype=torch.int64, device=self._device)
        return answer(self._runner.anatomy, hidden[:, -1], nothing)[1]

    def _n_below(self, layer: int) -> int:
        """Number of rows whose start layer is below `layer`: those that run in that block."""
        return bisect_left(self._starts, layer)

    def _positions(self, prompts: Sequence[int]) -> Positions:
        """Positions of the newest token of rows or histories that continue the given prompts."""
        ids = self._before.last_positions[list(prompts), -1:] + self._n_generated
        return self._runner.positions(ids)

    def _attend_at(
        self, layer: int, own: Context, prompts: Sequence[int], *, after: int = 0
    ) -> Attend:
        """Attention of one new token a row, whose place is the last of `own`."""
        layout = RowLayout.of(prompts, self._before.n_prompts, self._device)

        def attend(call: AttentionCall) -> Tensor:
            own.key[:, :, -1:] = call.key
            own.value[:, :, -1:] = call.value
            return self._before.attend(layer, call, own, layout, after=after)

        return attend

    def _extend_histories(self, tokens: Sequence[int]) -> list[Tensor]:
        """Run each distinct history one token further; returns its state after each block.

        The state of layer `l` is `[history, 1, d_model]`, for histories needed at that layer.
        """
        parents, new_tokens = self._branch(tokens)
        history = self._history
        positions = self._positions(history.prompts)
        token_ids = torch.tensor(new_tokens, device=self._device)[:, None]
        hidden = self._runner.embed(token_ids, positions)
        states: list[Tensor] = []
        for layer, old in enumerate(history.contexts):
            n_there = sum(depth >= layer for depth in history.depths)
            own = history.contexts[layer] = _with_room(old, parents[:n_there])
            if n_there:
                attend = self._attend_at(layer, own, history.prompts[:n_there])
                hidden = self._runner.run(layer, hidden[:n_there], positions.first(n_there), attend)
            states.append(hidden)
        return states

    def _branch(self, tokens: Sequence[int]) -> tuple[list[int], list[int]]:
        """Give each distinct pair of history and next token its own history.

        Returns the parent and the token of each new history.
        """
        depth_of: dict[tuple[int, int], int] = {}
        keys = list(zip(self._history_of, tokens, strict=True))
        for key, start in zip(keys, self._starts, strict=True):
            depth_of[key] = max(start, depth_of.get(key, 0))
        ordered = sorted(depth_of, key=lambda key: -depth_of[key])
        number = {key: index for index, key in enumerate(ordered)}
        self._history_of = [number[key] for key in keys]
        self._history = _History(
            prompts=[self._history.prompts[parent] for parent, _ in ordered],
            depths=[depth_of[key] for key in ordered],
            contexts=self._history.contexts,
        )
        return [parent for parent, _ in ordered], [token for _, token in ordered]


def _with_room(context: Context, rows: list[int]) -> Context:
    """Some rows of a context, with room for one more token."""

    def grown(old: Tensor) -> Tensor:
        new = old.new_empty(len(rows), old.shape[1], old.shape[2] + 1, old.shape[3])
        new[:, :, :-1] = old[rows]
        return new

    return Context(grown(context.key), grown(context.value))
