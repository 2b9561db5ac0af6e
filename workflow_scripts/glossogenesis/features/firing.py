"""The first pass over held-out activations: encode, count what fires, and spool it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.errors import StudyError
from glossogenesis.features.spool import TOKEN_IDS, FiredBlock, LatentSpool, token_ids_of
from glossogenesis.features.top_tokens import TokenCounts
from glossogenesis.progress import progress
from glossogenesis.sae.autoencoder import FiredLatents, SparseAutoencoder
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.activations.rows import ActivationRows

SPLIT = "held_out"
"""Features are described on text that autoencoders were not trained on."""

ROWS_AT_ONCE = 4096
"""Tokens of a block, but for the rest of the last sequence in it."""

_DENSE_VALUES_ON_GPU = 1 << 28


def check_same_corpus(cache: ActivationCache, corpus: TokenisedCorpus) -> None:
    """Refuse a corpus of another name, tokenizer or set of languages than the activations'."""
    facts = {
        "corpus": (cache.corpus, corpus.corpus),
        "tokenizer": (cache.tokenizer_digest, corpus.tokenizer_digest),
        "languages": (cache.languages, corpus.languages),
    }
    for name, (of_cache, of_corpus) in facts.items():
        if of_cache != of_corpus:
            raise StudyError(
                f"{cache.manifest}: its {name} is {of_cache!r}, but {corpus.folder} has "
                f"{of_corpus!r}; give the corpus that the activations were taken from"
            )


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


def whole_sequences(
    cache: ActivationCache, rows_at_once: int = ROWS_AT_ONCE
) -> Iterator[ActivationRows]:
    """Yield the held-out rows in order, cut between sequences after about `rows_at_once` of them.

    StudyError where a sequence comes after a later one, or lies in two shards.
    """
    last = -1
    for shard in cache.shards(SPLIT):
        contexts = shard.contexts.numpy()
        if len(contexts) and (contexts[0] <= last or (np.diff(contexts) < 0).any()):
            raise StudyError(
                f"{cache.manifest}: its held-out sequences are out of order; delete it and rerun"
            )
        ends = np.append(np.flatnonzero(np.diff(contexts)) + 1, len(contexts))
        start = 0
        while start < len(contexts):
            place = int(np.searchsorted(ends, start + rows_at_once))
            end = int(ends[min(place, len(ends) - 1)])
            yield shard[start:end]
            start = end
        last = int(contexts[-1]) if len(contexts) else last


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
