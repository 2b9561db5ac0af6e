"""Table of the three stages: shared at first, then of one language, then shared again.

For each (model, autoencoder) and each layer, third of the depth and pooled over layers, the curve
p(t) of the share of bilingual features over checkpoints is reduced to three: its height, its lowest
point after that, and its end. The end is the last checkpoint. Height and lowest point are the two
checkpoints before the end, the height first, between which the share falls most; so the height is
the highest share before the lowest point, and the lowest point the lowest between the height and
the end. At step 0, where random weights keep tokens apart, the share may be low; such a start does
not hide the fall after it.

Choosing two of many checkpoints by their shares makes their difference look larger than it is.
Every p value is therefore multiplied by the number of choices there were (Bonferroni): of pairs for
the fall, of lowest points for the rise; intervals are widened likewise, to hold for all choices at
once. The differences of the chosen checkpoints err upwards; `fall_split` and `rise_split` do not:
they are chosen on one half of the features and taken on the other. The tests are Fisher's exact
test, one-sided; the intervals Newcombe's of a difference of shares; over the layers of a model,
false discoveries are held at 5 % (Benjamini and Hochberg 1995), for falls and rises apart. Rows
that pool the layers of a third, and of all, count as families of their own.

Shares are of the labelled features. Where the labelled are a part of the dictionary at one of the
three checkpoints that is larger by `WIDELY` than at another, the verdict says so: the features
compared are then not chosen alike. The rows with the choice `population` compare the same part of
every dictionary, `populations` says which.

Features are taken as independent draws. That leaves out what another seed of the autoencoder or of
the model would have changed.

A label needs a number of examples, and how many features have them differs: of a model with random
weights few, later nearly all. So a share of the labelled features is, at different checkpoints, one
of differently chosen parts of the dictionary. Here every checkpoint gives the same share of its
dictionary, the features with the most examples: as many hundredths as all checkpoints have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import fisher_exact

from glossogenesis.features.schemas import BILINGUAL, DEAD, DEFAULT, UNLABELLED, WITHOUT_SHARE
from glossogenesis.features.tables import over_layers
from glossogenesis.statistics.clustered import adjusted
from glossogenesis.statistics.intervals import newcombe_interval
from glossogenesis.study.setups import DEPTH, DEPTH_FACTS, EVERY_DEPTH, REGIONS, require_columns

LEVEL = 0.05
WIDELY = 0.1
"""Shares of the dictionary that are labelled differ widely from this difference on."""

SPLITS = 20
"""Times that features are halved."""

_POINTS = ("height", "lowest", "end")
_CHANGES = ("fall", "rise")
STAGES_SCHEMA = pl.Schema(
    {"model": pl.String, "sae": pl.String, "choice": pl.String, "value": pl.String}
    | {"layer": pl.Int32, DEPTH: pl.String, "checkpoints": pl.Int64}
    | {
        column: dtype
        for point in _POINTS
        for column, dtype in (
            (f"{point}_checkpoint", pl.String),
            (f"{point}_step", pl.Int64),
            (f"{point}_labelled", pl.Int64),
            (f"{point}_labelled_share", pl.Float64),
            (f"{point}_share", pl.Float64),
        )
    }
    | {
        column: dtype
        for change in _CHANGES
        for column, dtype in (
            (change, pl.Float64),
            (f"{change}_split", pl.Float64),
            (f"{change}_low", pl.Float64),
            (f"{change}_high", pl.Float64),
            (f"{change}_p", pl.Float64),
            (f"{change}_q", pl.Float64),
            (f"{change}_significant", pl.Boolean),
        )
    }
    | {"same_population": pl.Boolean, "verdict": pl.String}
)


CHOICES_OF_LABELS = ("share", "threshold", "bilingual_share", "symbol_share", "examples", "by")
"""Choices that labels depend on; those of monosemanticity alone cannot change their shares."""

_COUNTS = ("features", "labelled", "dictionary")
_CURVE = (
    *("model", "sae", "choice", "value", "layer", DEPTH, "checkpoint", "step"),
    *_COUNTS,
)

MATCHED = ("population", "matched")
"""Choice and value of rows whose populations are alike."""

HUNDREDTHS = 100
RANKED_SCHEMA = pl.Schema(
    {
        **pl.Schema({"dictionary": pl.Int64, "measured": pl.Int64}),
        **pl.Schema({"bilingual": pl.List(pl.Int64), "labelled": pl.List(pl.Int64)}),
    }
)


@dataclass(frozen=True)
class Point:
    """The bilingual share at one checkpoint: `bilingual` of `labelled` features."""

    checkpoint: str
    step: int
    bilingual: int
    labelled: int
    dictionary: int

    @property
    def share(self) -> float:
        """Share of labelled features that are bilingual."""
        return self.bilingual / self.labelled

    @property
    def labelled_share(self) -> float:
        """Share of the dictionary's features that are labelled."""
        return self.labelled / self.dictionary


@dataclass(frozen=True)
class Change:
    """A difference of two shares, positive in the direction that is asked for.

    `low` and `high` hold at 95 % over all choices, `p` is one-sided, multiplied by their number.
    """

    value: float
    low: float
    high: float
    p: float


def stages_table(
    languages: pl.DataFrame,
    alternatives: pl.DataFrame | None = None,
    matched: pl.DataFrame | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """The three stages of each model and autoencoder, by layer, third of the depth and pooled.

    Checkpoints are taken in the order of their steps; those without labelled features are left out.
    With fewer than three, only the verdict says something.

    Args:
        languages: the table `features_languages`; its rows have choice and value `default`.
        alternatives: the table `features_sensitivity`; other choices of labels get rows too.
        matched: like populations, of `matched_curves`; they get rows too.
        seed: of the halves of features.

    Returns:
        Columns `STAGES_SCHEMA`. `fall_p` and `rise_p` are corrected for the choice of checkpoints,
        `fall_q` and `rise_q` for the number of layers too; `significant` is q of at most 0.05.

    """
    curves = [
        languages.filter(label=BILINGUAL)
        .with_columns(choice=pl.lit(DEFAULT), value=pl.lit(DEFAULT))
        .select(_CURVE)
    ]
    if alternatives is not None:
        curves.append(_alternative_curves(alternatives))
    if matched is not None:
        curves.append(matched.select(_CURVE))
    rows = []
    families = pl.concat(curves).group_by("model", "sae", "choice", "value", maintain_order=True)
    for _, family in families:
        scopes = family.group_by("layer", DEPTH, maintain_order=True)
        described = sorted((_row(scope, seed) for _, scope in scopes), key=_place)
        for place in range(3):
            _correct([row for row in described if _place(row)[0] == place])
        rows += [row | {"verdict": _verdict(row)} for row in described]
    return pl.DataFrame(rows, STAGES_SCHEMA)


def _alternative_curves(sensitivity: pl.DataFrame) -> pl.DataFrame:
    """Bilingual features of every other choice that labels depend on, by layer and pooled."""
    counts = sensitivity.filter(
        pl.col("label") == BILINGUAL,
        pl.col("features").is_not_null(),
        pl.col("choice").is_in(CHOICES_OF_LABELS),
    )
    by_layer = counts.select(*DEPTH_FACTS.names(), "choice", "value", *_COUNTS)
    both = pl.concat([by_layer, over_layers(by_layer, ["choice", "value"], list(_COUNTS))])
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
    both = [(point.bilingual, point.labelled) for point in (more, less)]
    low, high = newcombe_interval(*both, error=LEVEL / choices)
    counts = [[hits, labelled - hits] for hits, labelled in both]
    p = float(fisher_exact(counts, alternative="greater").pvalue)
    return Change(more.share - less.share, low, high, min(1.0, p * choices))


def split_changes(points: Sequence[Point], seed: int) -> tuple[float, float] | None:
    """Fall and rise between checkpoints that other features were chosen by.

    The features of every checkpoint are halved at random. Height and lowest point are chosen on one
    half, and their differences taken on the other, both ways, and again with other halves; all are
    averaged. None where a half has no feature.
    """
    if min(point.labelled for point in points) < 2:
        return None
    generator = np.random.default_rng(seed)
    changes = []
    for _ in range(SPLITS):
        halves = _halves(points, generator)
        for chosen_on, taken_on in (halves, halves[::-1]):
            chosen = three_points(chosen_on)
            assert chosen is not None, "as many points as the whole has"
            height, lowest, end = (taken_on[chosen_on.index(point)].share for point in chosen)
            changes.append((height - lowest, end - lowest))
    fall, rise = np.mean(changes, axis=0).tolist()
    return fall, rise


def _halves(
    points: Sequence[Point], generator: np.random.Generator
) -> tuple[list[Point], list[Point]]:
    """The points of one half of the features of each checkpoint, and of the other."""
    first, second = [], []
    for point in points:
        size = point.labelled // 2
        others = point.labelled - point.bilingual
        drawn = int(generator.hypergeometric(point.bilingual, others, size))
        first.append(replace(point, bilingual=drawn, labelled=size))
        rest = point.labelled - size
        second.append(replace(point, bilingual=point.bilingual - drawn, labelled=rest))
    return first, second


def _row(curve: pl.DataFrame, seed: int) -> dict[str, Any]:
    """One row of the table without what needs the other layers."""
    ordered = curve.filter(pl.col("labelled") > 0).sort("step")
    points = [Point(*row) for row in ordered.select("checkpoint", "step", *_COUNTS).iter_rows()]
    row: dict[str, Any] = dict.fromkeys(STAGES_SCHEMA)
    row |= curve.select("model", "sae", "choice", "value", "layer", DEPTH).row(0, named=True)
    row["checkpoints"] = len(points)
    chosen = three_points(points)
    if chosen is None:
        return row
    for name, point in zip(_POINTS, chosen, strict=True):
        row |= {f"{name}_checkpoint": point.checkpoint, f"{name}_step": point.step}
        row |= {f"{name}_labelled": point.labelled, f"{name}_share": point.share}
        row[f"{name}_labelled_share"] = point.labelled_share
    parts = [point.labelled_share for point in chosen]
    row["same_population"] = max(parts) - min(parts) < WIDELY
    height, lowest, end = chosen
    inner = len(points) - 1
    pairs = inner * (inner - 1) // 2
    changes = (change_between(height, lowest, pairs), change_between(end, lowest, inner - 1))
    for name, change in zip(_CHANGES, changes, strict=True):
        row |= {name: change.value, f"{name}_low": change.low, f"{name}_high": change.high}
        row[f"{name}_p"] = change.p
    if (split := split_changes(points, seed)) is not None:
        row |= dict(zip(("fall_split", "rise_split"), split, strict=True))
    return row


def _place(row: dict[str, Any]) -> tuple[int, int]:
    """Where a row stands: layers by number, then thirds from early to late, then all together."""
    if row["layer"] is not None:
        return 0, row["layer"]
    return (2, 0) if row[DEPTH] == EVERY_DEPTH else (1, REGIONS.index(row[DEPTH]))


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
        return "fewer than three checkpoints with labelled features: stages cannot be distinguished"
    height, lowest, end = (
        f"{row[f'{point}_share']:.2f} (step {row[f'{point}_step']})" for point in _POINTS
    )
    if row["fall"] <= 0:
        return f"did not fall before the end, {end}: no stages{_population(row)}"
    rose = f"rose to {end}" if row["rise"] > 0 else f"did not rise after, {end}"
    significance = {
        (True, True): "all three stages significant",
        (True, False): "the fall is significant, a rise is not",
        (False, True): "the rise is significant, the fall is not",
        (False, False): "neither fall nor rise is significant",
    }[row["fall_significant"], row["rise_significant"]]
    return f"fell from {height} to {lowest} and {rose}: {significance}{_population(row)}"


def _population(row: dict[str, Any]) -> str:
    """What part of the features the shares are of, and whether that is one population."""
    parts = ", ".join(f"{row[f'{point}_labelled_share']:.0%}" for point in _POINTS)
    differ = "" if row["same_population"] else ", which is not one population"
    return f"; labelled are {parts} of the features{differ}"


def ranked_counts(statistics: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Count the features of the hundredths of a `statistics.parquet` with the most examples.

    One row, `RANKED_SCHEMA`: features in the dictionary; those with enough examples to be measured;
    and, for 0 to 100 hundredths of the dictionary, how many of them are bilingual and labelled.
    """
    require_columns(statistics, {"examples": pl.Int32, "language": pl.String}, path)
    ordered = statistics.sort("examples", descending=True, maintain_order=True)
    labels = ordered["language"].to_numpy()
    ends = np.arange(HUNDREDTHS + 1) * statistics.height // HUNDREDTHS
    counted = {
        "bilingual": np.append(0, np.cumsum(labels == BILINGUAL))[ends],
        "labelled": np.append(0, np.cumsum(~np.isin(labels, WITHOUT_SHARE)))[ends],
    }
    row = {
        "dictionary": statistics.height,
        "measured": int((~np.isin(labels, [UNLABELLED, DEAD])).sum()),
        **{name: values.tolist() for name, values in counted.items()},
    }
    return pl.DataFrame([row], RANKED_SCHEMA)


def matched_curves(ranked: pl.DataFrame) -> pl.DataFrame:
    """Bilingual and labelled features of like populations, by layer and pooled.

    `ranked` has `DEPTH_FACTS` and `RANKED_SCHEMA`. The checkpoints of a layer and autoencoder give
    as many hundredths of their dictionaries as the one with the fewest measured features has.

    Columns: `DEPTH_FACTS`, choice, value, features (bilingual), labelled, dictionary.
    """
    share = HUNDREDTHS * pl.col("measured") // pl.col("dictionary")
    place = share.min().over("model", "sae", "layer")
    chosen = ranked.select(
        *DEPTH_FACTS.names(),
        pl.lit(MATCHED[0]).alias("choice"),
        pl.lit(MATCHED[1]).alias("value"),
        pl.col("bilingual").list.get(place).alias("features"),
        pl.col("labelled").list.get(place),
        "dictionary",
    )
    pooled = over_layers(chosen, ["choice", "value"], ["features", "labelled", "dictionary"])
    return pl.concat([chosen, pooled])
