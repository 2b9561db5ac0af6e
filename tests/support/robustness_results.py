"""What the jobs of a robustness study leave behind, made up, for tests of tables and figures.

Two models, `first` and `other`, look at the same 40 held-out posts of four labels. What differs
between them is in `Planted`, so that tests know what the tables should say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from glossogenesis.models.anatomy import COMPONENTS
from glossogenesis.robustness.circuit import CIRCUIT_SCHEMA, circuit_table
from glossogenesis.robustness.knockout.sets import KNOCKOUT_SCHEMA
from glossogenesis.robustness.label_tables import LABELS_SCHEMA
from glossogenesis.robustness.pairs import PAIRS_SCHEMA
from glossogenesis.robustness.tables.circuit import ABLATIONS, EFFECTS
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.storage.files import write_json
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tables import write_table
from support.planted_label_features import cues, features, post_features, survival
from support.planted_models import LABELS, POSTS, Planted

THRESHOLDS = (0.01, 0.05)
SAE = "l1"


def settings(*models: Planted, variants: bool = True) -> dict[str, Any]:
    """Settings of `tabulate_robustness`."""
    return {
        "models": {
            each.model: {
                "checkpoint": "end",
                "label": each.model.title(),
                "layers": list(each.layers),
                "tokenizer": each.model,
            }
            for each in models
        },
        "seeds": sorted({each.seed for each in models}),
        "saes": {SAE: {"sae": SAE, "sae_seed": 0}},
        "thresholds": list(THRESHOLDS),
        "top": 3,
        "threshold": 1.0,
        "pooling": "mean",
        "variants": variants,
        "resamples": 200,
        "seed": 0,
    }


def origin(kind: str, model: Planted | None = None, **facts: Any) -> Provenance:
    """The same for all files of a kind but for what a model may have of its own."""
    own: dict[str, Any] = (
        {} if model is None else {"layers": list(model.layers), "dtype": model.model}
    )
    inputs = {"posts": "p0sts"}
    if model is not None:
        inputs["classifier"] = f"weights of {model.folder}"
    return Provenance(kind, "demo", {"of": kind} | own, inputs, "c0de", facts=facts)


def write_study(results: Path, *models: Planted, variants: bool = True) -> None:
    """Write every file that the tables are made of."""
    counts = {
        "posts_read": 103,
        "without_label": 0,
        "without_text": 0,
        "duplicates_removed": 2,
        "repeated_removed": 1,
        "labels": 4,
        "not_drawn": 0,
    }
    counts |= {"empty_bodies": 5, "train": 60, "held_out": len(LABELS) * POSTS}
    posts = predictions(()).select("post", "number", "label")
    write_table(results / "posts/posts.parquet", posts, origin("posts", **counts))
    baseline = predictions((0, 1, 2, 3, 4, 5))
    write_table(results / "classifiers/baseline/predictions.parquet", baseline, origin("baseline"))
    for model in models:
        write_json(
            results / "posts" / model.model / "manifest.json",
            {"tokenizer_digest": model.tokenizer},
        )
        for name, table in _tables(model, variants).items():
            write_table(results / name.format(m=model.folder), table, origin(name, model))
        for layer in model.layers:
            write_features(results, model, layer)


def _tables(model: Planted, variants: bool) -> dict[str, pl.DataFrame]:
    found = {
        "classifiers/{m}/predictions.parquet": predictions(model.wrong),
        "pairs/{m}/pairs.parquet": pairs(model),
        "components/{m}/effects.parquet": effects(model),
        "circuits/{m}/circuit.parquet": circuit(model),
        "circuits/{m}/ablations.parquet": ablations(model),
        f"knockout/{{m}}/{SAE}.parquet": knockout(model),
    }
    if variants:
        found[f"spelling_variants/{{m}}/{SAE}.parquet"] = survival(model)
    return found


def write_features(results: Path, model: Planted, layer: int) -> None:
    """Write the four tables of one autoencoder."""
    folder = results / "post_features" / model.folder / f"layer_{layer}" / SAE
    share = model.specific / 20
    figures = {"explained_variance": 0.9, "label_specific_share": share, "mean_variety": 0.7}
    figures |= {"label_specific_share_low": share - 0.1, "label_specific_share_high": share + 0.1}
    figures |= {"mean_variety_low": 0.6, "mean_variety_high": 0.8}
    figures |= {"label_specific_share_counted": share + 0.02, "mean_variety_counted": 0.8}
    figures |= {"label_specific_share_halves": [share - 0.1, share + 0.1], "labels": 4}
    figures["mean_variety_halves"] = [0.6, 0.8]
    figures["shuffled"] = {"label_specific_share": 0.2, "mean_variety": 0.1}
    made = {
        "labels": pl.DataFrame(schema=LABELS_SCHEMA),
        "features": features(model),
        "cues": cues(model, layer),
        "posts": post_features(model, layer),
    }
    for name, table in made.items():
        write_table(folder / f"{name}.parquet", table, origin("label_features", model, **figures))


def predictions(wrong: Sequence[int]) -> pl.DataFrame:
    """Predictions of held-out posts; `wrong` ones are given the label after their own."""
    number = np.arange(len(LABELS) * POSTS)
    true = number // POSTS
    given = np.where(np.isin(number, wrong), (true + 1) % len(LABELS), true)
    return pl.DataFrame(
        {
            "post": pl.Series(60 + number, dtype=pl.Int32),
            "number": pl.Series(number, dtype=pl.Int32),
            "label": [LABELS[label] for label in true],
            "predicted": [LABELS[label] for label in given],
        }
    )


def pairs(model: Planted) -> pl.DataFrame:
    """The same posts in every model's common pairs."""
    rows = [
        (name, pair, pair, pair + 10, LABELS[pair // POSTS], LABELS[pair // POSTS + 1], 0.9)
        for name in ("own", "common")
        for pair in range(model.pairs)
    ]
    return pl.DataFrame(rows, PAIRS_SCHEMA, orient="row")


def effects(model: Planted) -> pl.DataFrame:
    """Effects around their planted means: the first pair of each set is undefined."""
    generator = np.random.default_rng([sum(map(ord, model.model)), model.pairs])
    rows = []
    for name in ("own", "common"):
        spread = generator.normal(1, 0.2, (model.pairs, model.n_layers, len(COMPONENTS)))
        for pair in range(model.pairs):
            for layer in range(model.n_layers):
                for place, component in enumerate(COMPONENTS):
                    mean = model.effect * 0.5 ** (model.n_layers - 1 - layer) * (0.1, 1)[place]
                    effect = mean * spread[pair, layer, place] if pair else 0.0
                    direct = (effect / 2, 0.9 if pair else 0.0)
                    rows.append((name, pair, layer, component, effect, *direct, not pair))
    return pl.DataFrame(rows, pl.Schema(EFFECTS), orient="row")


def circuit(model: Planted) -> pl.DataFrame:
    """What the job would make of the effects."""
    if not model.pairs:
        return pl.DataFrame(schema=CIRCUIT_SCHEMA)
    return circuit_table(effects(model), THRESHOLDS, Bootstrap(200))


def ablations(model: Planted) -> pl.DataFrame:
    """Circuits keep `kept` posts, random ones a few; the whole network all, and none nothing."""
    if not model.pairs:
        return pl.DataFrame(schema=pl.Schema(ABLATIONS))
    n = len(LABELS) * POSTS
    full = n - len(model.wrong)

    def counts(right: int) -> tuple[int, ...]:
        return (n, right, full, full - right + 1, 1) if right != full else (n, full, full, 0, 0)

    rows = []
    for name in ("own", "common"):
        for threshold in THRESHOLDS:
            for measure in ("sufficiency", "necessity"):
                alone = measure == "sufficiency"
                correct = {
                    "effect": [model.kept if alone else model.kept // 3],
                    "random": [15, 10, 20] if alone else [32, 36, 34],
                    "all": [full if alone else 4],
                    "none": [4 if alone else full],
                }
                for method in ("mean", "zero", "resample"):
                    rows += [
                        (name, threshold, measure, kind, draw, 4, method, "last", *counts(right))
                        for kind, draws in correct.items()
                        for draw, right in enumerate(draws)
                    ]
    return pl.DataFrame(rows, pl.Schema(ABLATIONS), orient="row")


def knockout(model: Planted) -> pl.DataFrame:
    """Every label loses `drop` posts at layer 1, half as many elsewhere; controls at most one."""
    rows = []
    for layer in model.layers:
        for place, label in enumerate(LABELS):
            right = POSTS - sum(number // POSTS == place for number in model.wrong)
            all_right = POSTS * len(LABELS) - len(model.wrong)
            dropped = model.drop if layer == 1 else model.drop // 2
            for condition, draws in {
                "none": [0],
                "top": [min(right, dropped + place % 2)],
                "random": [0, 0, 1],
                "frequency": [0, 1, 1],
                "other": [1, 0],
            }.items():
                other = LABELS[place - 1] if condition == "other" else None
                features = 0 if condition == "none" else 3
                for draw, lost in enumerate(draws):
                    setting = (layer, label, condition, draw, other, features)
                    own = (POSTS, right, right - lost, lost, 0, -0.3 * lost)
                    after = (all_right, all_right - lost, lost, 0)
                    f1 = (0.9, 0.9 - 0.02 * lost, *(sorted((-0.03 * lost, -0.01 * lost))))
                    false = (1, 1 + lost, 0, lost)
                    everywhere = (POSTS * len(LABELS), *after, *f1, *false)
                    if condition == "frequency" and draw:
                        everywhere = (None,) * len(everywhere)
                    rows.append((*setting, *own, *everywhere))
    return pl.DataFrame(rows, KNOCKOUT_SCHEMA, orient="row")
