"""The first pass over held-out activations: encode, count what fires, and spool it.

The pairs of a feature and a token that occur are too many to count one by one. A first pass keeps a
bounded number of candidates a feature by the Misra-Gries summary, in the form that merges (Agarwal
et al. 2012, Mergeable Summaries): where a feature has more candidates than places, the count of the
first that has no place is taken from all of them. With m places, every token that makes up more
than 1 / (m + 1) of a feature's firings is kept for certain. A second pass counts the candidates
exactly; it is needed only where something was taken away.

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
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.models.activation_order import SPLIT, places_in_groups, whole_sequences
from glossogenesis.progress import progress
from glossogenesis.sae.autoencoder import FiredLatents, SparseAutoencoder
from glossogenesis.storage.activations.cache import ActivationCache, ActivationRows

_DENSE_VALUES_ON_GPU = 1 << 28

Integers = NDArray[np.int64]

PLACES = 32
"""Candidates of a feature: a token of more than 3 % of its firings is found for certain."""

_AT_LEAST_WAITING = 1 << 16
_TOKEN_BITS = 32

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


class FiringCounts:
    """Running statistics of every feature; activations are those in the autoencoder's space."""

    def __init__(self, n_latents: int, n_languages: int) -> None:
        """Start with nothing counted."""
        self.tokens = np.zeros(n_languages, np.int64)
        """Tokens of the documents of each language."""
        self.firings = np.zeros((n_languages, n_latents), np.int64)
        """Tokens on which each feature fired, by language of the document."""
        self.sums = np.zeros(n_latents, np.float64)
        self.maximum = np.zeros(n_latents, np.float32)
        """Largest activation; 0 of features that never fired."""

    def add(self, block: FiredBlock) -> None:
        """Count a block of tokens."""
        n_languages, n_latents = self.firings.shape
        languages = block.tokens["language"].astype(np.int64)
        self.tokens += np.bincount(languages, minlength=n_languages)
        pairs = languages[block.rows] * n_latents + block.latents
        self.firings += np.bincount(pairs, minlength=self.firings.size).reshape(n_languages, -1)
        self.sums += np.bincount(block.latents, block.values, minlength=n_latents)
        np.maximum.at(self.maximum, block.latents, block.values)

    @property
    def total(self) -> NDArray[np.int64]:
        """Tokens on which each feature fired, [feature]."""
        total: NDArray[np.int64] = self.firings.sum(axis=0)
        return total


class MaximumRecorder(SparseAutoencoder):
    """An autoencoder that remembers the largest output of its encoder, before ReLU and TopK.

    It shares the weights of the autoencoder that it is made from. Encoding is most of the work of
    a pass, so the maximum is taken where the outputs are formed anyway.
    """

    def __init__(self, sae: SparseAutoencoder) -> None:
        """Record for `sae`, on the device that it is on."""
        # On `meta` nothing is allocated for the weights that are put in place below.
        with torch.device("meta"):
            super().__init__(
                sae.d_model,
                sae.n_latents,
                sae.architecture,
                k=sae.k,
                normalise=sae.normalise,
                threshold=sae.threshold,
            )
        self.w_enc, self.b_enc = sae.w_enc, sae.b_enc
        self.w_dec, self.b_dec = sae.w_dec, sae.b_dec
        self.maximum = torch.full_like(sae.b_enc, -torch.inf)
        """Largest pre-activation of each latent so far, float32 [latent]."""

    def _fired_in(self, before: Tensor) -> FiredLatents:
        torch.maximum(self.maximum, before.amax(dim=0), out=self.maximum)
        return super()._fired_in(before)


def spool_firings(
    sae: SparseAutoencoder,
    cache: ActivationCache,
    spool: LatentSpool,
    counts: FiringCounts,
    token_counts: TokenCounts,
) -> NDArray[np.float32]:
    """Encode the held-out activations of a cache once; count and spool what fires.

    Returns:
        The largest pre-activation of each latent, float32 [latent].

    Raises:
        StudyError: the cache holds no held-out token, or its sequences are out of order.
    """
    recorder = MaximumRecorder(sae)
    with (
        progress(total=cache.rows_in(SPLIT), label="features", unit="token") as bar,
        torch.no_grad(),
    ):
        for rows in whole_sequences(cache):
            u, _ = recorder.to_sae_space(rows.activations.to(sae.b_enc.device))
            fired = recorder.fired(u, rows_at_once=_rows_at_once(sae))
            block = _block_of(fired, rows)
            counts.add(block)
            token_counts.add(block.latents, block.tokens["token_id"][block.rows])
            spool.append(block)
            bar.update(len(rows))
    if not counts.tokens.sum():
        raise StudyError(
            f"{cache.manifest}: holds no held-out token; raise `held_out_tokens` of corpus "
            f"{cache.corpus!r} and rerun"
        )
    maximum: NDArray[np.float32] = recorder.maximum.cpu().numpy()
    return maximum


def _block_of(fired: FiredLatents, rows: ActivationRows) -> FiredBlock:
    names = {
        "context": rows.contexts,
        "column": rows.columns,
        "document": rows.documents,
        "token_id": rows.token_ids,
        "language": rows.languages,
        "token_language": rows.token_languages,
    }
    return FiredBlock(
        rows=fired.rows.cpu().numpy(),
        latents=fired.latents.cpu().numpy(),
        values=fired.values.cpu().numpy(),
        tokens=token_ids_of({name: names[name].numpy() for name in TOKEN_IDS.names or ()}),
    )


def _rows_at_once(sae: SparseAutoencoder) -> int | None:
    """Tokens whose dense latents are formed together; a GPU works faster on larger pieces."""
    if sae.b_enc.device.type == "cpu":
        return None
    return max(1, _DENSE_VALUES_ON_GPU // sae.n_latents)


class TokenCounts:
    """Counts how often each feature fires on each token: `add` everything, then `recount` it."""

    def __init__(self, n_latents: int, places: int = PLACES) -> None:
        """Start with nothing counted, for a dictionary of `n_latents`."""
        self._places = places
        self._keys = np.empty(0, np.int64)
        self._counts = np.empty(0, np.int64)
        # As many pairs wait as there are places, so that merging takes as long as counting.
        self._waiting = np.zeros(max(_AT_LEAST_WAITING, n_latents * places), np.int64)
        self._waits = 0
        self._recounted: Integers | None = None
        self.exact = True
        """Whether nothing was taken away, so that counts are exact without a second pass."""

    def add(self, latents: Integers, token_ids: NDArray[np.int32]) -> None:
        """Count firings of latents, each on a token, both [fired]."""
        keys = _keys(latents, token_ids)
        while len(keys):
            free = len(self._waiting) - self._waits
            taken, keys = keys[:free], keys[free:]
            self._waiting[self._waits : self._waits + len(taken)] = taken
            self._waits += len(taken)
            if self._waits == len(self._waiting):
                self._merge()

    def recount(self, latents: Integers, token_ids: NDArray[np.int32]) -> None:
        """Count the candidates among firings that were all added before, in the second pass."""
        self._merge()
        if self._recounted is None:
            self._recounted = np.zeros(len(self._keys), np.int64)
        keys, counts = np.unique(_keys(latents, token_ids), return_counts=True)
        places = np.searchsorted(self._keys, keys)
        places[places == len(self._keys)] = 0
        found = self._keys[places] == keys if len(self._keys) else np.zeros(len(keys), bool)
        self._recounted[places[found]] += counts[found]

    def most_frequent(self, number: int) -> tuple[Integers, Integers, Integers]:
        """Return the `number` most frequent tokens of each feature, ties by token id.

        Returns:
            features, token ids and counts, each int64 [entry], by feature, most frequent first.
        """
        self._merge()
        counts = self._counts if self._recounted is None else self._recounted
        features, token_ids = self._keys >> _TOKEN_BITS, self._keys & ((1 << _TOKEN_BITS) - 1)
        order = np.lexsort((token_ids, -counts, features))
        order = order[places_in_groups(features[order]) < number]
        return features[order], token_ids[order], counts[order]

    def _merge(self) -> None:
        if not self._waits:
            return
        keys, counts = np.unique(self._waiting[: self._waits], return_counts=True)
        self._waits = 0
        joined = np.concatenate([self._keys, keys])
        order = np.argsort(joined, kind="stable")
        joined = joined[order]
        counts = np.concatenate([self._counts, counts])[order]
        first = np.flatnonzero(np.diff(joined, prepend=-1))
        self._keys, self._counts = joined[first], np.add.reduceat(counts, first)
        self._shorten()

    def _shorten(self) -> None:
        """Take the count of each feature's first candidate without a place from all of its own."""
        features = self._keys >> _TOKEN_BITS
        order = np.lexsort((-self._counts, features))
        excess = order[places_in_groups(features[order]) == self._places]
        if not len(excess):
            return
        self.exact = False
        taken = np.zeros(int(features[-1]) + 1, np.int64)
        taken[features[excess]] = self._counts[excess]
        left = self._counts - taken[features]
        self._keys, self._counts = self._keys[left > 0], left[left > 0]


def _keys(latents: Integers, token_ids: NDArray[np.int32]) -> Integers:
    keys: Integers = latents << _TOKEN_BITS | token_ids.astype(np.int64)
    return keys


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
