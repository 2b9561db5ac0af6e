"""Table of the three stages: mixed at first, then of one language, then mixed again.

For each (model, autoencoder) and each layer, and pooled over layers, the curve p(t) of the mixed
share over checkpoints is reduced to three: its height, its lowest point after that, and its end.
The end is the last checkpoint. Height and lowest point are the two checkpoints before the end, the
height first, between which the share falls most; so the height is the highest share before the
lowest point, and the lowest point the lowest between the height and the end. At step 0, where
random weights keep tokens apart, the share may be low; such a start does not hide the fall after
it.

Choosing two of many checkpoints by their shares makes their difference look larger than it is.
Every p value is therefore multiplied by the number of choices there were (Bonferroni): of pairs for
the fall, of lowest points for the rise; intervals are widened likewise, to hold for all choices at
once. The tests are Fisher's exact test, one-sided; the intervals Newcombe's of a difference of
shares; over the layers of a model, false discoveries are held at 5 % (Benjamini and Hochberg 1995),
for falls and rises apart. Rows that pool layers count as a family of their own.

Features are taken as independent draws. That leaves out what another seed of the autoencoder or of
the model would have changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import fisher_exact

from glossogenesis.features.language_tables import over_layers
from glossogenesis.features.schemas import DEFAULT, MIXED
from glossogenesis.features.setups import SETUP_FACTS
from glossogenesis.statistics.intervals import newcombe_interval
from glossogenesis.statistics.permutation import adjusted

LEVEL = 0.05

_POINTS = ("height", "lowest", "end")
_CHANGES = ("fall", "rise")
STAGES_SCHEMA = pl.Schema(
    {"model": pl.String, "sae": pl.String, "choice": pl.String, "value": pl.String}
    | {"layer": pl.Int32, "checkpoints": pl.Int64}
    | {
        column: dtype
        for point in _POINTS
        for column, dtype in (
            (f"{point}_checkpoint", pl.String),
            (f"{point}_step", pl.Int64),
            (f"{point}_labelled", pl.Int64),
            (f"{point}_share", pl.Float64),
        )
    }
    | {
        column: dtype
        for change in _CHANGES
        for column, dtype in (
            (change, pl.Float64),
            (f"{change}_low", pl.Float64),
            (f"{change}_high", pl.Float64),
            (f"{change}_p", pl.Float64),
            (f"{change}_q", pl.Float64),
            (f"{change}_significant", pl.Boolean),
        )
    }
    | {"verdict": pl.String}
)


CHOICES_OF_LABELS = ("share", "threshold", "minimum_examples", "by")
"""Choices that labels depend on; those of monosemanticity alone cannot change a mixed share."""

_CURVE = (
    *("model", "sae", "choice", "value", "layer", "checkpoint", "step", "features", "labelled"),
)


@dataclass(frozen=True)
class Point:
    """The mixed share at one checkpoint: `mixed` of `labelled` features."""

    checkpoint: str
    step: int
    mixed: int
    labelled: int

    @property
    def share(self) -> float:
        """Share of labelled features that are mixed."""
        return self.mixed / self.labelled


@dataclass(frozen=True)
class Change:
    """A difference of two shares, positive in the direction that is asked for.

    `low` and `high` hold at 95 % over all choices, `p` is one-sided, multiplied by their number.
    """

    value: float
    low: float
    high: float
    p: float


def stages_table(languages: pl.DataFrame, alternatives: pl.DataFrame | None = None) -> pl.DataFrame:
    """The three stages of each model and autoencoder, by layer and pooled over layers.

    Checkpoints are taken in the order of their steps; those without labelled features are left out.
    With fewer than three, only the verdict says something.

    Args:
        languages: the table `features_languages`; its rows have choice and value `default`.
        alternatives: the table `features_sensitivity`; other choices of labels get rows too.

    Returns:
        Columns `STAGES_SCHEMA`. `fall_p` and `rise_p` are corrected for the choice of checkpoints,
        `fall_q` and `rise_q` for the number of layers too; `significant` is q of at most 0.05.

    """
    curves = [
        languages.filter(label=MIXED)
        .with_columns(choice=pl.lit(DEFAULT), value=pl.lit(DEFAULT))
        .select(_CURVE)
    ]
    if alternatives is not None:
        curves.append(_alternative_curves(alternatives))
    rows = []
    families = pl.concat(curves).group_by("model", "sae", "choice", "value", maintain_order=True)
    for _, family in families:
        layers = family["layer"].unique().sort(nulls_last=True).to_list()
        described = [_row(family.filter(pl.col("layer").eq_missing(layer))) for layer in layers]
        for pooled in (False, True):
            _correct([row for row in described if (row["layer"] is None) == pooled])
        rows += [row | {"verdict": _verdict(row)} for row in described]
    return pl.DataFrame(rows, STAGES_SCHEMA)


def _alternative_curves(sensitivity: pl.DataFrame) -> pl.DataFrame:
    """Mixed features of every other choice that labels depend on, by layer and pooled."""
    counts = sensitivity.filter(
        pl.col("label") == MIXED,
        pl.col("features").is_not_null(),
        pl.col("choice").is_in(CHOICES_OF_LABELS),
    )
    added = ["features", "labelled"]
    by_layer = counts.select(*SETUP_FACTS.names(), "choice", "value", *added)
    both = pl.concat([by_layer, over_layers(by_layer, ["choice", "value"], added)])
    return both.sort("choice", "value", maintain_order=True).select(_CURVE)


def three_points(points: Sequence[Point]) -> tuple[Point, Point, Point] | None:
    """Height, lowest point and end of a curve in order of training; None below three points."""
    if len(points) < 3:
        return None
    shares = np.array([point.share for point in points])
    before = np.maximum.accumulate(shares[:-2])
    lowest = int(np.argmax(before - shares[1:-1])) + 1
    height = int(np.argmax(shares[:lowest]))
    return points[height], points[lowest], points[-1]


def change_between(more: Point, less: Point, choices: int) -> Change:
    """How much higher the share is at `more` than at `less`, chosen among so many."""
    both = [(point.mixed, point.labelled) for point in (more, less)]
    low, high = newcombe_interval(*both, error=LEVEL / choices)
    counts = [[mixed, labelled - mixed] for mixed, labelled in both]
    p = float(fisher_exact(counts, alternative="greater").pvalue)
    return Change(more.share - less.share, low, high, min(1.0, p * choices))


def _row(curve: pl.DataFrame) -> dict[str, Any]:
    """One row of the table without what needs the other layers."""
    ordered = curve.filter(pl.col("labelled") > 0).sort("step")
    points = [
        Point(*row)
        for row in ordered.select("checkpoint", "step", "features", "labelled").iter_rows()
    ]
    row: dict[str, Any] = dict.fromkeys(STAGES_SCHEMA)
    row |= curve.select("model", "sae", "choice", "value", "layer").row(0, named=True)
    row["checkpoints"] = len(points)
    chosen = three_points(points)
    if chosen is None:
        return row
    for name, point in zip(_POINTS, chosen, strict=True):
        row |= {f"{name}_checkpoint": point.checkpoint, f"{name}_step": point.step}
        row |= {f"{name}_labelled": point.labelled, f"{name}_share": point.share}
    height, lowest, end = chosen
    inner = len(points) - 1
    pairs = inner * (inner - 1) // 2
    changes = (change_between(height, lowest, pairs), change_between(end, lowest, inner - 1))
    for name, change in zip(_CHANGES, changes, strict=True):
        row |= {name: change.value, f"{name}_low": change.low, f"{name}_high": change.high}
        row[f"{name}_p"] = change.p
    return row


def _correct(rows: list[dict[str, Any]]) -> None:
    """Fill in q values and whether they are significant, over the rows of one family."""
    tested = [row for row in rows if row["fall_p"] is not None]
    for change in _CHANGES if tested else ():
        corrected = adjusted([row[f"{change}_p"] for row in tested]).tolist()
        for row, q in zip(tested, corrected, strict=True):
            row |= {f"{change}_q": q, f"{change}_significant": q <= LEVEL}


def _verdict(row: dict[str, Any]) -> str:
    """What happened, in a sentence."""
    if row["fall"] is None:
        return "fewer than three checkpoints with labelled features: stages cannot be told apart"
    height, lowest, end = (
        f"{row[f'{point}_share']:.2f} (step {row[f'{point}_step']})" for point in _POINTS
    )
    if row["fall"] <= 0:
        return f"did not fall before the end, {end}: no stages"
    rose = f"rose to {end}" if row["rise"] > 0 else f"did not rise after, {end}"
    told = {
        (True, True): "all three stages significant",
        (True, False): "the fall is significant, a rise is not",
        (False, True): "the rise is significant, the fall is not",
        (False, False): "neither fall nor rise is significant",
    }[row["fall_significant"], row["rise_significant"]]
    return f"fell from {height} to {lowest} and {rose}: {told}"
