"""Which features are injected: those of each language, and the bilingual ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from glossogenesis.features.alive import alive_features
from glossogenesis.patching.injection_variants import LatentGroups

BILINGUAL = "bilingual"
"""Name of the group of mixed, monosemantic features."""


def injection_groups(
    statistics: pl.DataFrame,
    n_latents: int,
    *,
    languages: Sequence[str],
    minimum_monosemanticity: float,
    path: Path,
) -> LatentGroups:
    """Group the features of `statistics.parquet`, read from `path`.

    A feature is bilingual if it is labelled `mixed` and its monosemanticity is at least the
    minimum: it fires in several languages for one meaning (Inaba et al. 2025).

    Raises:
        StudyError: the statistics are of another autoencoder.
    """
    alive = alive_features(statistics, n_latents, path)
    groups = {code: _features(alive.filter(language=code)) for code in languages}
    groups[BILINGUAL] = _features(
        alive.filter(
            pl.col("language") == "mixed", pl.col("monosemanticity") >= minimum_monosemanticity
        )
    )
    return LatentGroups(groups, _features(alive))


def _features(rows: pl.DataFrame) -> Tensor:
    return torch.tensor(rows["feature"].to_list(), dtype=torch.int64)
