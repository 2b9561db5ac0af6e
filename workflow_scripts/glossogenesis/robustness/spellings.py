r"""The features that fire on a spelling, and how many are left without those of another.

A spelling's activation of a feature is the maximum over the tokens that hold its characters, or
over those of the whole sentence.

    survival(a -> b) = |F_b \ F_a| / |F_b|   (Fukasawa 2026)

where F holds a spelling's k strongest features, or all that fire where they are fewer. It is 1
where b shares no feature with a, so that what reads b does not depend on what reads a, and 0 where
all of b's features are a's too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.corpora.contexts import CorpusTokenizer
from glossogenesis.corpora.posts import Spelling, span_of
from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.batches import batches_by_length
from glossogenesis.models.residuals import Destination, scatter_residuals
from glossogenesis.sae.autoencoder import SparseAutoencoder

Span = Literal["spelling", "sentence"]

SURVIVAL_SCHEMA = pl.Schema(
    {
        "layer": pl.Int16,
        "arm": pl.String,
        "k": pl.Int32,
        "concept": pl.String,
        "first": pl.String,
        "second": pl.String,
        "first_kind": pl.String,
        "second_kind": pl.String,
        "survival": pl.Float64,
        "chance": pl.Float64,
        "unrelated": pl.Float64,
        "n_active": pl.Int32,
        "shared": pl.Int32,
        "first_features": pl.Int32,
        "second_features": pl.Int32,
    }
)


@dataclass(frozen=True)
class LocatedSpelling:
    """A text up to the last token that counts; what comes after cannot change it."""

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]
    """Indices of the tokens that count."""


@dataclass(frozen=True)
class SpellingStates:
    """The residual stream at every token of every spelling."""

    of_layer: Mapping[int, Tensor]
    """By layer, float32 `[row, d_model]`; rows are the tokens of one spelling after the other."""
    spellings: Tensor
    """int64 `[row]`: number of the spelling that each row is a token of."""
    number: int
    """Spellings."""


@dataclass(frozen=True)
class StrongestFeatures:
    """What an autoencoder finds in the spellings of one arm."""

    of_spelling: tuple[NDArray[np.int64], ...]
    """For each spelling its strongest features, strongest first; fewer where fewer fire."""
    n_active: int
    """Features that fire on any of the spellings."""
    l0: float
    """Mean number of features that fire on a token."""


def locate_spellings(
    spellings: Sequence[Spelling],
    texts: Sequence[str],
    tokenizer: CorpusTokenizer,
    *,
    add_special_tokens: bool,
    span: Span = "spelling",
) -> list[LocatedSpelling]:
    """Find the tokens of each spelling in its text, or all that stand for text.

    A token that holds a part of a character, or characters beside the spelling too, counts.

    Raises:
        StudyError: a text does not hold its spelling exactly once, or the tokenizer drops it.
    """
    tokenizer.backend.no_padding()
    tokenizer.backend.no_truncation()
    encodings = tokenizer.backend.encode_batch(list(texts), add_special_tokens=add_special_tokens)
    located = []
    for spelling, text, encoding in zip(spellings, texts, encodings, strict=True):
        named = f"concept {spelling.concept!r}, spelling {spelling.variant!r}"
        try:
            first, end = span_of(text, spelling.variant)
        except StudyError as error:
            raise StudyError(f"{named}: {error}") from None
        if span == "sentence":
            first, end = 0, len(text)
        # Tokens that stand for no text have an empty span.
        positions = tuple(
            position
            for position, (start, stop) in enumerate(encoding.offsets)
            if start < stop and start < end and stop > first
        )
        if not positions:
            raise StudyError(
                f"{named}: no token of the tokenizer holds it in {text!r}; take it out of the "
                "table of spellings"
            )
        located.append(LocatedSpelling(tuple(encoding.ids[: positions[-1] + 1]), positions))
    return located


def states_of_spellings(
    anatomy: Anatomy,
    located: Sequence[LocatedSpelling],
    layers: Sequence[int],
    *,
    batch_size: int,
    described_as: str,
) -> SpellingStates:
    """Run the model over all texts once, for all layers.

    Raises:
        StudyError: an activation is NaN or infinite.
    """
    counts = torch.tensor([len(spelling.positions) for spelling in located])
    first_rows = (counts.cumsum(0) - counts).tolist()
    n_rows = int(counts.sum())
    of_layer = {layer: torch.empty(n_rows, anatomy.d_model) for layer in layers}
    finite = True
    for batch in batches_by_length([len(each.token_ids) for each in located], batch_size):
        width = max(len(located[number].token_ids) for number in batch)
        token_ids = torch.zeros(len(batch), width, dtype=torch.int64)
        mask = torch.zeros_like(token_ids)
        columns, slots = [], []
        for row, number in enumerate(batch):
            ids, positions = located[number].token_ids, located[number].positions
            token_ids[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = 1
            columns += [row * width + position for position in positions]
            slots += [first_rows[number] + index for index in range(len(positions))]
        destination = Destination(torch.tensor(columns), torch.tensor(slots), of_layer)
        finite &= scatter_residuals(
            anatomy, token_ids, None if bool(mask.all()) else mask, destination
        )
    if not finite:
        raise StudyError(
            f"{described_as}: activations of spellings are NaN or infinite; check the classifier's "
            "weights and the model's `dtype`"
        )
    spellings = torch.repeat_interleave(torch.arange(len(located)), counts)
    return SpellingStates(of_layer, spellings, len(located))


def strongest_features(
    sae: SparseAutoencoder, states: Tensor, spellings: Tensor, number: int, *, k: int
) -> StrongestFeatures:
    """Return the `k` strongest features of each spelling.

    Of features that are equally strong, the one with the lower number is taken first. A feature
    that does not fire is nobody's.

    Args:
        sae: the autoencoder, on any device.
        states: residual stream `[row, d_model]` at the tokens of spellings.
        spellings: int64 `[row]`, the spelling of each row, counted from 0.
        number: spellings.
        k: features of a spelling at most.
    """
    u, _ = sae.to_sae_space(states.to(sae.w_enc.device))
    fired = sae.fired(u)
    keys = spellings.to(fired.rows.device)[fired.rows] * sae.n_latents + fired.latents
    pairs, of_pair = keys.unique(return_inverse=True)
    maxima = fired.values.new_zeros(len(pairs)).scatter_reduce_(0, of_pair, fired.values, "amax")
    owners, features = np.divmod(pairs.cpu().numpy(), sae.n_latents)
    order = np.lexsort((features, -maxima.cpu().numpy(), owners))
    ends = np.searchsorted(owners, np.arange(1, number))
    return StrongestFeatures(
        tuple(part[:k] for part in np.split(features[order], ends)),
        n_active=len(np.unique(features)),
        l0=len(fired.rows) / max(fired.n_rows, 1),
    )


def survival_rows(
    spellings: Sequence[Spelling], found: StrongestFeatures, ks: Sequence[int]
) -> list[dict[str, Any]]:
    """Return a row for every k and every ordered pair of spellings of one concept.

    `chance` is what random features would give: without any set of |F_a| of the `n_active` features
    that fire on some spelling, the expected share of b's that is left (by the mean of the
    hypergeometric distribution). Features are not used evenly, so spellings that have nothing to do
    with each other share more than that: `unrelated` is the mean survival of b over the spellings
    of all other concepts in the place of a. Rows lack `layer` and `arm`.

    Args:
        spellings: the table, in its order.
        found: features of each spelling, at least max(`ks`) of them where as many fire.
        ks: numbers of features that are compared.
    """
    concepts = np.array([spelling.concept for spelling in spellings])
    rows = []
    for k in ks:
        sets = [features[:k] for features in found.of_spelling]
        sizes = [len(features) for features in sets]
        shared = _shared_features(sets)
        for second, spelling in enumerate(spellings):
            others = shared[concepts != spelling.concept, second]
            unrelated = _left(float(others.mean()), sizes[second]) if len(others) else None
            for first in np.flatnonzero(concepts == spelling.concept).tolist():
                if first == second:
                    continue
                rows.append(
                    {
                        "k": k,
                        "concept": spelling.concept,
                        "first": spellings[first].variant,
                        "second": spelling.variant,
                        "first_kind": spellings[first].kind,
                        "second_kind": spelling.kind,
                        "survival": _left(int(shared[first, second]), sizes[second]),
                        "chance": _left(sizes[first], found.n_active),
                        "unrelated": unrelated,
                        "n_active": found.n_active,
                        "shared": int(shared[first, second]),
                        "first_features": sizes[first],
                        "second_features": sizes[second],
                    }
                )
    return rows


def _shared_features(sets: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return how many features each two spellings have in common, `[spelling, spelling]`."""
    used = np.unique(np.concatenate(sets)) if sets else np.empty(0, np.int64)
    has = np.zeros((len(sets), len(used)), np.int64)
    for number, features in enumerate(sets):
        has[number, np.searchsorted(used, features)] = 1
    return has @ has.T


def _left(taken: float, whole: int) -> float | None:
    """Return the share of something that is left, or of nothing None."""
    return (whole - taken) / whole if whole else None
