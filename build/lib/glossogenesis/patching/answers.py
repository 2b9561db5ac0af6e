"""From the last residual stream to the first answer token: probabilities and greedy choice."""

from __future__ import annotations

import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy

_LOGITS_AT_ONCE = 1 << 25


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
