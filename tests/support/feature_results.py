"""What the jobs of a features study leave behind, made up, for tests of tables and figures.

The features of a layer are random: the share that is bilingual follows `BILINGUAL_SHARES` over
checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from glossogenesis.features.quality_tables import DISTRIBUTIONS, MEASURES
from glossogenesis.features.schemas import (
    BILINGUAL,
    DEAD,
    MIXED,
    NOT_LANGUAGES,
    SYMBOL,
    UNLABELLED,
    sensitivity_schema,
    statistics_schema,
)
from glossogenesis.features.tables import SIMILARITIES
from glossogenesis.injection.tables import PERPLEXITY_SCHEMA, TRANSLATION_SCHEMA
from glossogenesis.storage.files import write_json
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tables import write_table

CODES = ("en", "ja")
SIMILARITIES_VALUE = 0.75
BILINGUAL_SHARES = (0.05, 0.55, 0.2, 0.08, 0.12, 0.2)
"""At checkpoints in order: low at random weights, high, low, and higher again."""


def origin(kind: str, **facts: object) -> Provenance:
    """The same for all files of a kind."""
    inputs = {"corpus": "c0", "embeddings": "e0", "sae": str(facts.get("sae", ""))}
    return Provenance(kind, "demo", {"of": kind}, inputs, "c0de", facts=facts)


def statistics(
    bilingual: float, *, features: int = 200, seed: int = 0, codes: Sequence[str] = CODES
) -> pl.DataFrame:
    """A `statistics.parquet`: a tenth each dead, without label and symbols, of the rest a share
    bilingual."""
    generator = np.random.default_rng(seed)
    number = np.arange(features)
    labels = np.array(codes)[number % len(codes)]
    labels = np.where(generator.random(features) < bilingual, BILINGUAL, labels)
    for place, label in enumerate((DEAD, UNLABELLED, SYMBOL)):
        labels = np.where(number % 10 == place, label, labels)
    dead = labels == DEAD
    few = dead | (labels == UNLABELLED)
    meaning = np.clip(generator.normal(0.3 + bilingual / 4, 0.2, features), 0, 1)
    types = generator.integers(1, 9, features)
    meaning = np.where(types == 1, 1.0, meaning)
    rows = pl.DataFrame(
        {
            "feature": number,
            "firings": np.where(dead, 0, 100),
            "examples": np.where(few, 3, 20 + generator.integers(0, 100, features)),
            "language": labels.tolist(),
            "token_types": np.where(few, 0, types),
            "monosemanticity": [None if f else m for f, m in zip(few, meaning, strict=True)],
        }
    )
    schema = statistics_schema(codes)
    absent = [name for name in schema if name not in rows.columns]
    return rows.with_columns(pl.lit(None, schema[name]).alias(name) for name in absent).select(
        pl.col(name).cast(dtype) for name, dtype in schema.items()
    )


def sensitivity(found: pl.DataFrame, codes: Sequence[str] = CODES) -> pl.DataFrame:
    """A `sensitivity.parquet`: the default, and two alternatives in which fewer are bilingual."""
    labels = [*codes, *NOT_LANGUAGES]
    count = {label: found.filter(language=label).height for label in labels}
    rows = []
    for choice, value, less in (("default", "default", 0), ("share", "0.8", 5), ("by", "paper", 9)):
        moved = min(less, count[BILINGUAL])
        counts = count | {BILINGUAL: count[BILINGUAL] - moved, codes[0]: count[codes[0]] + moved}
        rows.append(
            {
                "choice": choice,
                "value": value,
                "features_by_label": counts,
                "labelled": sum(counts[label] for label in (*codes, BILINGUAL, MIXED)),
                "monosemanticity": 0.5 - less / 100,
                "monosemanticity_by_label": dict.fromkeys((*codes, BILINGUAL, MIXED), 0.5),
                "several_types": 50,
                "monosemanticity_several_types": 0.4,
            }
        )
    return pl.DataFrame(rows, sensitivity_schema(codes))


def quality(place: int, *, codes: Sequence[str] = CODES) -> dict:
    """A `quality.json`."""
    part = {"tokens": 4000} | dict.fromkeys(MEASURES, 0.5)
    part |= {"explained_variance": 0.9 - 0.05 * place, "l0": 8.0}
    return part | {
        "space": "what the autoencoder sees",
        "explained_variance_formula": "1 - a / b",
        "latents": 200,
        "dead_share": 0.02 * place,
        "by_language": dict.fromkeys(codes, part),
        **{name: {"mean": 0.4} for name in DISTRIBUTIONS},
        "provenance": asdict(origin("quality", place=place)),
    }


def recovery(layers: Sequence[int], place: int, codes: Sequence[str] = CODES) -> pl.DataFrame:
    """A recovery table."""
    rows = [
        {
            "layer": layer,
            "language": language,
            "contexts": 64,
            "tokens": 900,
            "ce_clean": 3.0,
            "ce_spliced": 3.2,
            "ce_zero": 8.0,
            "ce_mean": 6.0,
            "recovered_zero": 0.96,
            "recovered_mean": 0.9333,
            "ablation": "mean",
            "recovered": 0.8 + 0.02 * place,
            "recovered_low": 0.75,
            "recovered_high": 0.95,
        }
        for layer in layers
        for language in (*codes, "all")
    ]
    return pl.DataFrame(rows).with_columns(pl.col("layer").cast(pl.Int32))


def matches(features: int, seed: int, codes: Sequence[str] = CODES) -> pl.DataFrame:
    """A `matches.parquet`: seven tenths kept, some of a language before and bilingual now."""
    generator = np.random.default_rng(seed)
    labels = np.array([*codes, BILINGUAL, UNLABELLED])
    event = generator.choice(["kept", "birth", "death"], features, p=[0.6, 0.25, 0.15])
    before = generator.choice(labels, features, p=_weights(len(labels)))
    now = np.where(generator.random(features) < 0.15, BILINGUAL, before)
    number = np.arange(features)
    born, died = event == "birth", event == "death"
    columns = {
        "feature": (number, died, pl.Int32),
        "earlier_feature": (number, born, pl.Int32),
        "cosine": (generator.uniform(0.5, 1, features), born | died, pl.Float32),
        "language": (now.tolist(), died, pl.String),
        "earlier_language": (before.tolist(), born, pl.String),
        "event": (event.tolist(), np.zeros(features, bool), pl.String),
    }
    return pl.DataFrame(
        {
            name: pl.Series(
                [None if gone else v for v, gone in zip(values, absent, strict=True)]
            ).cast(dtype)
            for name, (values, absent, dtype) in columns.items()
        }
    ).with_columns(label_changed=pl.col("language") != pl.col("earlier_language"))


def _weights(number: int) -> np.ndarray:
    weights = np.ones(number)
    weights[-1] = 0.3
    return weights / weights.sum()


def write_study(
    results: Path,
    checkpoints: Sequence[str],
    layers: Sequence[int],
    *,
    model: str = "demo",
    sae: str = "topk",
    features: int = 200,
    codes: Sequence[str] = CODES,
) -> None:
    """Write what every job but injections leaves behind."""
    for place, checkpoint in enumerate(checkpoints):
        height = float(
            np.interp(place, np.linspace(0, len(checkpoints) - 1, 6), BILINGUAL_SHARES)
            if len(checkpoints) > 1
            else 0.2
        )
        write_table(
            results / "recovery" / model / checkpoint / f"{sae}.parquet",
            recovery(layers, place % 7, codes),
            origin("recovery"),
        )
        for layer in layers:
            folder = Path(model, checkpoint, f"layer_{layer}", sae)
            bump = 1 - 0.5 * abs(2 * layer / max(layers[-1], 1) - 1)
            found = statistics(
                height * bump, features=features, seed=100 * place + layer, codes=codes
            )
            write_table(results / "features" / folder / "statistics.parquet", found, origin("s"))
            write_table(
                results / "features" / folder / "sensitivity.parquet",
                sensitivity(found, codes),
                origin("s"),
            )
            write_json(results / "sae" / folder / "quality.json", quality(place % 7, codes=codes))
            if place:
                write_table(
                    results / "tracking" / folder / "matches.parquet",
                    matches(features, 100 * place + layer, codes),
                    origin(
                        "matches",
                        earlier_checkpoint=checkpoints[place - 1],
                        **dict.fromkeys(SIMILARITIES, SIMILARITIES_VALUE),
                    ),
                )


def write_sheet(path: Path, models: Sequence[str], checkpoints: Sequence[str]) -> None:
    """A checkpoint sheet; steps double from 0, 8; the second half is of phase 2."""
    lines = ["model\tcheckpoint\tstep\ttokens\tphase\tsource"]
    for model in models:
        for place, name in enumerate(checkpoints):
            step = 0 if place == 0 else 4 * 2**place
            phase = 1 + (place > len(checkpoints) // 2)
            lines.append(f"{model}\t{name}\t{step}\t{step * 4096}\t{phase}\tmodels/{name}")
    path.write_text("\n".join(lines), encoding="utf-8")


def perplexity(
    place: int, layers: Sequence[int] = (1,), codes: Sequence[str] = CODES
) -> pl.DataFrame:
    """A `perplexity.parquet`: bilingual features help most, controls do not."""
    rows = []
    for layer in layers:
        for evaluated in (*codes, "all"):
            for group, control, draw, change in _injected(codes):
                gain = change * (1 + place)
                nll = 5.0 - place / 2 + gain
                injected = group != "none"
                rows.append(
                    {
                        **_named(layer, group, control, draw),
                        "language": evaluated,
                        "contexts": 64,
                        "tokens": 900,
                        "nll": nll,
                        "perplexity": float(np.exp(nll)),
                        "perplexity_low": float(np.exp(nll - 0.1)),
                        "perplexity_high": float(np.exp(nll + 0.1)),
                        "difference": gain if injected else None,
                        "difference_low": gain - 0.02 if injected else None,
                        "difference_high": gain + 0.02 if injected else None,
                    }
                )
    return pl.DataFrame(rows, schema_overrides=dict(PERPLEXITY_SCHEMA)).pipe(
        _completed, PERPLEXITY_SCHEMA
    )


def translation(place: int, codes: Sequence[str] = CODES) -> pl.DataFrame:
    """A `translation.parquet` of one pair in both directions."""
    rows = [
        {
            **_named(1, group, control, draw),
            "input_language": given,
            "output_language": asked,
            "metric": metric,
            "sentences": 50,
            "value": 20.0 - 10 * change,
            "low": 15.0,
            "high": 25.0,
            "difference": -10 * change * (1 + place) if group != "none" else None,
            "difference_low": -12 * change - 1 if group != "none" else None,
            "difference_high": -8 * change + 1 if group != "none" else None,
        }
        for given, asked in (codes[:2], codes[1::-1])
        for metric in ("bleu", "chrf")
        for group, control, draw, change in _injected(codes)
    ]
    return pl.DataFrame(rows, schema_overrides=dict(TRANSLATION_SCHEMA)).pipe(
        _completed, TRANSLATION_SCHEMA
    )


def write_injections(results: Path, checkpoints: Sequence[str], model: str = "demo") -> None:
    """Write the injections into each checkpoint."""
    for place, checkpoint in enumerate(checkpoints):
        folder = results / "injection" / model / checkpoint
        for kind, rows in (("perplexity", perplexity(place)), ("translation", translation(place))):
            write_table(folder / f"{kind}.parquet", rows, origin(kind))


def _named(layer: int, group: str, control: str, draw: int | None) -> dict:
    alpha = 0.0 if group == "none" else 1.0
    return {"layer": layer, "alpha": alpha, "group": group, "control": control, "draw": draw} | {
        "features": 20,
        "mean_change": 0.3,
    }


def _injected(codes: Sequence[str]) -> list[tuple[str, str, int | None, float]]:
    """Group, control, draw and change of the mean negative log-likelihood."""
    rows: list[tuple[str, str, int | None, float]] = [("none", "none", None, 0.0)]
    for group in (*codes, BILINGUAL, SYMBOL):
        rows.append((group, "none", None, -0.1 if group == BILINGUAL else -0.05))
        for draw in range(3):
            rows.append((group, "random", draw, 0.01 * draw))
            rows.append((group, "norm_matched", draw, 0.04 + 0.01 * draw))
        # The mean over the draws.
        rows.append((group, "random", None, 0.01))
        rows.append((group, "norm_matched", None, 0.05))
    return rows


def _completed(rows: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    absent = [name for name in schema if name not in rows.columns]
    return rows.with_columns(pl.lit(None, schema[name]).alias(name) for name in absent).select(
        pl.col(name).cast(dtype) for name, dtype in schema.items()
    )
