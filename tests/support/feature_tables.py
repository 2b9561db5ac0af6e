"""The tables of a small features study, of made-up results."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from glossogenesis.features.quality_tables import joined_quality, quality_rows, recovery_rows
from glossogenesis.features.stages import matched_curves, ranked_counts, stages_table
from glossogenesis.features.tables import (
    label_counts,
    languages_table,
    monosemanticity_histogram,
    monosemanticity_table,
    sensitivity_rows,
    tracking_counts,
)
from glossogenesis.injection.tables import perplexity_rows, translation_rows
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.study.setups import (
    Setup,
    checkpoint_facts,
    grid_table,
    with_checkpoint,
    with_depth,
    with_setup,
)
from glossogenesis.study.sheet import Checkpoint
from support.feature_results import (
    matches,
    perplexity,
    quality,
    recovery,
    sensitivity,
    statistics,
    translation,
)

PATH = Path("made-up")
STEPS = [0, 8, 64, 512]
BILINGUAL_SHARES = [0.05, 0.55, 0.1, 0.3]


def row(step: int, model: str = "demo") -> Checkpoint:
    return Checkpoint(
        model=model,
        checkpoint=f"step{step}",
        step=step,
        tokens=step * 4096,
        phase=1 + (step > 8),
        source="x",
    )


def feature_tables(
    steps: list[int] = STEPS, layers: tuple[int, ...] = (1, 3), model: str = "demo"
) -> dict[str, pl.DataFrame]:
    """Every table of a small study."""
    labels, ranked, histograms, qualities, other, followed = [], [], [], [], [], []
    for place, step in enumerate(steps):
        for layer in layers:
            setup = Setup(row(step, model), layer, "topk", max(6, *layers))
            found = statistics(BILINGUAL_SHARES[place], seed=10 * place + layer)
            labels.append(with_depth(label_counts(found, PATH), setup))
            ranked.append(with_depth(ranked_counts(found, PATH), setup))
            histograms.append(with_depth(monosemanticity_histogram(found, PATH), setup))
            other.append(with_depth(sensitivity_rows(sensitivity(found), PATH), setup))
            spliced = recovery_rows(recovery(layers, place), layer, PATH)
            measured = joined_quality(quality_rows(quality(place), PATH), spliced, None)
            qualities.append(with_setup(measured, setup))
            if place:
                counted = tracking_counts(matches(100, 10 * place + layer), PATH)
                followed.append(with_setup(counted, setup))
    languages = languages_table(pl.concat(labels))
    injected = [
        with_checkpoint(part, checkpoint_facts(row(step, model)))
        for place, step in enumerate(steps)
        for part in (
            perplexity_rows(perplexity(place, layers[:1]), PATH),
            translation_rows(translation(place), PATH),
        )
    ]
    return {
        "languages": languages,
        "monosemanticity": monosemanticity_table(pl.concat(histograms), Bootstrap(100)),
        "quality": pl.concat(qualities),
        "stages": stages_table(languages, pl.concat(other), matched_curves(pl.concat(ranked))),
        "grid": grid_table(
            {model: [(f"step{step}", layer) for step in steps for layer in layers]},
            {model: layers},
            {model: 6},
            {model: 8},
            100,
        ),
        "tracking": pl.concat(followed) if followed else pl.DataFrame(),
        "injection": pl.concat(injected),
    }


TABLES = feature_tables()
ONE = feature_tables(STEPS[1:2], (2,))
"""Of one checkpoint and layer."""
