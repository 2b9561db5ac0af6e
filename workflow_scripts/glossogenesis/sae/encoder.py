"""The one dense product of a training step: a batch's latents, some tokens at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from glossogenesis.sae.selection import rows_in_chunk

Precision = Literal["float32", "bfloat16"]


class DenseLatents:
    """Forms dense latents in one buffer that every chunk, batch and autoencoder uses again."""

    def __init__(self, precision: Precision = "float32") -> None:
        self._precision = precision
        self._buffer: Tensor | None = None

    def chunks(
        self, centred: Tensor, w_enc: Tensor, b_enc: Tensor, *, rows_at_once: int | None = None
    ) -> Iterator[Tensor]:
        """Yield `centred @ w_enc.T + b_enc` for successive tokens, [row, latent].

        A chunk is overwritten by the next. With precision `bfloat16` product and bias are rounded
        to that type, as under autocast.

        Args:
            centred: activations less the decoder's bias [row, d_model].
            w_enc: encoder [latent, d_model].
            b_enc: its bias [latent].
            rows_at_once: tokens in a chunk; by default as many as fit 64 megabytes.
        """
        if self._precision == "bfloat16":
            centred, w_enc, b_enc = (part.bfloat16() for part in (centred, w_enc, b_enc))
        step = min(rows_at_once or rows_in_chunk(len(w_enc)), max(1, len(centred)))
        buffer = self._buffer_like(centred, step, len(w_enc))
        for part in centred.split(step):
            yield torch.addmm(b_enc, part, w_enc.t(), out=buffer[: len(part)])

    def _buffer_like(self, like: Tensor, rows: int, n_latents: int) -> Tensor:
        held = self._buffer
        if (
            held is None
            or held.shape[1] != n_latents
            or held.shape[0] < rows
            or held.dtype != like.dtype
            or held.device != like.device
        ):
            held = like.new_empty(rows, n_latents)
            self._buffer = held
        return held
