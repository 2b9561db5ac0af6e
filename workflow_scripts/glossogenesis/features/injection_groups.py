"""Which features are injected: those of each language, bilingual ones, and those of symbols."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from glossogenesis.features.alive import alive_features
from glossogenesis.features.schemas import BILINGUAL, SYMBOL
from glossogenesis.patching.injection_variants import LatentGroups


def injection_groups(
    statistics: pl.DataFrame,
    n_latents: int,
    *,
    languages: Sequence[str],
    minimum_monosemanticity: float,
    path: Path,
) -> LatentGroups:
    """Group the features of `statistics.parquet`, read from `path`.

    Bilingual features are those with that label whose monosemanticity is at least the minimum:
    they fire in several languages for one meaning (Inaba et al. 2025). Features that fire on tokens
    without letters are a group of their own, since what they do is no language's.

    Raises:
        StudyError: the statistics are of another autoencoder.
    """
    alive = alive_features(statistics, n_latents, path)
    groups = {code: _features(alive.filter(language=code)) for code in languages}
    groups[BILINGUAL] = _features(
        alive.filter(
            pl.col("language") == BILINGUAL, pl.col("monosemanticity") >= minimum_monosemanticity
        )
    )
    groups[SYMBOL] = _features(alive.filter(language=SYMBOL))
    return LatentGroups(groups, _features(alive))


def _features(rows: pl.DataFrame) -> Tensor:
    return torch.tensor(rows["feature"].to_list(), dtype=torch.int64)
