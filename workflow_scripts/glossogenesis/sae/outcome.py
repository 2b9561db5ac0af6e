"""Write what a training came to: the autoencoder, and the table of its steps."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.errors import NotFiniteError
from glossogenesis.sae.files import SaeFacts, write_no_sae, write_sae
from glossogenesis.sae.training import TrainedAutoencoder, TrainingPlan, TrainingRun
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.provenance import Provenance, diverged
from glossogenesis.storage.tables import write_table

TRAINING_FILE = "training.parquet"

TRAINING_SCHEMA = pl.Schema(
    {
        "step": pl.Int64,
        "tokens": pl.Int64,
        "learning_rate": pl.Float64,
        "loss": pl.Float64,
        "l0": pl.Float64,
        "dead_share": pl.Float64,
        "explained_variance": pl.Float64,
    }
)


def write_outcome(
    run: TrainingRun, cache: ActivationCache, folder: Path, provenance: Provenance, on_diverged: str
) -> None:
    """Write `training.parquet`, `cfg.json` and, last, `sae_weights.safetensors`.

    Args:
        run: all steps of which are taken.
        cache: the layer's activations.
        folder: gets the files.
        provenance: of the run; facts are added.
        on_diverged: whether to `stop` where no learning rate came to anything.

    Raises:
        StudyError: as `TrainingRun.finish`.
    """
    try:
        trained = run.finish(rows.activations for rows in cache.shards("held_out"))
    except NotFiniteError as error:
        write_nothing(folder, diverged(error, on_diverged, provenance))
        return
    facts = training_facts(trained, run.plan)
    provenance = replace(provenance, facts={**provenance.facts, **facts})
    table = pl.DataFrame([asdict(step) for step in trained.rows], schema=TRAINING_SCHEMA)
    write_table(folder / TRAINING_FILE, table, provenance)
    write_sae(folder, trained.sae, SaeFacts.of_cache(cache, facts), provenance)


def write_nothing(folder: Path, provenance: Provenance) -> None:
    """Write the same files, empty, of a layer that was left out."""
    write_table(folder / TRAINING_FILE, TRAINING_SCHEMA.to_frame(), provenance)
    write_no_sae(folder, provenance)


def training_facts(trained: TrainedAutoencoder, plan: TrainingPlan) -> dict[str, Any]:
    """What an autoencoder's files record of its training, as JSON."""
    return {
        "seed": plan.seed,
        "learning_rate": trained.winner.learning_rate,
        "held_out": [asdict(facts) for facts in trained.held_out],
        "steps": trained.steps_done,
        "tokens": trained.steps_done * plan.settings.batch_size,
        "warm_start": None if plan.neighbour is None else plan.neighbour_checkpoint,
    }
