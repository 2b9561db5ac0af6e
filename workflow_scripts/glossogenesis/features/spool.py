"""Fired latents on disk between two passes, 4 bytes each, and gone with the process.

A latent is its number in 2 bytes (4 above 65,536 latents) and its activation in a float16 of 2
bytes. Where every token has the same number of latents nothing else is stored; otherwise their
counts lie beside, 2 bytes a token. The ids of the tokens lie in a file of their own. The files have
no name, so that they vanish with the process whatever ends it.

The activations of a block are scaled by a power of two, so that its largest is just below the
largest float16: none overflows, and each keeps 11 significant bits unless it is below 2^-29 of the
largest.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glossogenesis.errors import StudyError

Integers = NDArray[np.int64]
Reals = NDArray[np.float32]

TOKEN_IDS = np.dtype(
    [
        ("context", "<i4"),
        ("column", "<i4"),
        ("document", "<i4"),
        ("token_id", "<i4"),
        ("language", "u1"),
        ("token_language", "u1"),
    ]
)
"""What is kept of a token beside its latents."""

_LARGEST_EXPONENT = 15
_SIGNIFICANT_BITS = 11
_SMALLEST = np.finfo(np.float16).smallest_subnormal


@dataclass(frozen=True)
class FiredBlock:
    """The fired latents of consecutive tokens; the sequences of the corpus in it are whole."""

    rows: Integers
    """Token in the block [fired], ascending."""
    latents: Integers
    """Number of the latent [fired]."""
    values: Reals
    """Activation, positive [fired]."""
    tokens: NDArray[np.void]
    """The tokens, `TOKEN_IDS` [row]."""


@dataclass(frozen=True)
class _Stored:
    """Where a block differs from others."""

    rows: int
    fired: int
    exponent: int


class LatentSpool:
    """Temporary files that blocks are appended to, and then read from in the same order."""

    def __init__(
        self,
        latents: BufferedRandom,
        tokens: BufferedRandom,
        n_latents: int,
        k: int | None,
        folder: Path,
    ) -> None:
        """Write to two empty files; `open_spool` opens them and says what the others are."""
        self._folder = folder
        self._k = k
        self._index = np.dtype(np.uint16 if n_latents <= 1 << 16 else np.uint32)
        # A token may have every latent, which for the largest 2-byte dictionary is one too many.
        self._count = np.dtype(np.uint16 if n_latents < 1 << 16 else np.uint32)
        self._blocks: list[_Stored] = []
        self.latent_bytes = 0
        """Bytes written of latents and their counts."""
        self.stored_latents = 0
        """Latents that those bytes hold, padding left out."""
        self._latents = latents
        self._tokens = tokens

    def append(self, block: FiredBlock) -> None:
        """Store a block behind those before.

        Raises:
            StudyError: the disk is full.
        """
        largest = float(block.values.max(initial=0.0))
        exponent = int(np.frexp(largest)[1]) - _LARGEST_EXPONENT if largest else 0
        # None becomes zero, which stands for no latent where rows are padded.
        values = np.ldexp(block.values, -exponent).astype(np.float16).clip(min=_SMALLEST)
        latents = block.latents.astype(self._index)
        counts = np.bincount(block.rows, minlength=len(block.tokens))
        if self._k is None:
            parts = [counts.astype(self._count), latents, values]
        else:
            parts = [_padded(array, block.rows, counts, self._k) for array in (latents, values)]
        for part in parts:
            self.latent_bytes += self._write(self._latents, part)
        self._write(self._tokens, block.tokens)
        self.stored_latents += len(latents)
        self._blocks.append(_Stored(len(block.tokens), len(latents), exponent))

    def blocks(self) -> Iterator[FiredBlock]:
        """Yield the blocks as they were appended; activations have 11 significant bits."""
        self._latents.seek(0)
        self._tokens.seek(0)
        for stored in self._blocks:
            tokens = _read(self._tokens, TOKEN_IDS, stored.rows)
            if self._k is None:
                counts = _read(self._latents, self._count, stored.rows)
                latents = _read(self._latents, self._index, stored.fired)
                values = _read(self._latents, np.dtype(np.float16), stored.fired)
                rows = np.repeat(np.arange(stored.rows), counts)
            else:
                held = stored.rows * self._k
                latents = _read(self._latents, self._index, held)
                values = _read(self._latents, np.dtype(np.float16), held)
                fired = np.flatnonzero(values)
                rows, latents, values = fired // self._k, latents[fired], values[fired]
            scaled = np.ldexp(values.astype(np.float32), stored.exponent)
            yield FiredBlock(rows, latents.astype(np.int64), scaled, tokens)

    def _write(self, file: BufferedRandom, array: NDArray[Any]) -> int:
        try:
            return file.write(np.ascontiguousarray(array).view(np.uint8).data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StudyError(
                f"{self._folder}: the disk is full after {self.latent_bytes:,} bytes of fired "
                "latents, which are kept there while features are collected; free some space, or "
                "set fewer `held_out_tokens`, and run again"
            ) from None


@contextmanager
def open_spool(folder: Path, n_latents: int, k: int | None) -> Iterator[LatentSpool]:
    """Open a spool whose files are gone when the block ends.

    Args:
        folder: where there is room for 4 bytes a latent and 18 a token.
        n_latents: size of the dictionary.
        k: latents stored for every token, zeros where fewer fired; None where numbers differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryFile(dir=folder) as latents,
        tempfile.TemporaryFile(dir=folder) as tokens,
    ):
        yield LatentSpool(latents, tokens, n_latents, k, folder)


def as_stored(values: NDArray[np.float32]) -> Reals:
    """Round to the 11 significant bits that stored activations have.

    A threshold is rounded like what it is compared with, so that an activation equal to it does not
    come out above.
    """
    mantissas, exponents = np.frexp(values)
    whole = np.rint(np.ldexp(mantissas, _SIGNIFICANT_BITS))
    rounded: Reals = np.ldexp(whole, exponents - _SIGNIFICANT_BITS).astype(np.float32)
    return rounded


def token_ids_of(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.void]:
    """Put the ids of tokens together, from a column for each field of `TOKEN_IDS`."""
    tokens = np.empty(len(columns["context"]), TOKEN_IDS)
    for name in TOKEN_IDS.names or ():
        tokens[name] = columns[name]
    return tokens


def _padded(array: NDArray[Any], rows: Integers, counts: Integers, k: int) -> NDArray[Any]:
    """The entries of each row in `k` columns, [row, k], zeros behind them."""
    table = np.zeros((len(counts), k), array.dtype)
    first = np.cumsum(counts) - counts
    table[rows, np.arange(len(rows)) - first[rows]] = array
    return table


def _read(file: BufferedRandom, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    array = np.empty(count, dtype)
    file.readinto(array.view(np.uint8).data)
    return array
