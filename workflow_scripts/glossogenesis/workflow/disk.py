"""What may be removed from a disk once it was used: downloaded weights, and shards of activations.

Manifests and records stay, so a finished study stays finished.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.study.study import Study
from glossogenesis.workflow.registry import CACHES, STAGES
from glossogenesis.workflow.stages import Setup

Weights = tuple[str, str]
"""A model and a checkpoint."""


@dataclass(frozen=True)
class UsedCache:
    """The activation cache of one layer, and what is still to be made by jobs that read it."""

    manifest: Path
    unfinished: tuple[Path, ...]
    """Artifacts of those jobs that are not there yet."""


def caches_of(study: Study, results: Path) -> Iterator[UsedCache]:
    """Yield the caches of a study that exist: of checkpoints, then of classifiers."""
    missing: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for stage in STAGES.values():
        if stage.reads_cache is not None:
            for setup in stage.jobs_in(study):
                path = results / stage.path().format_map(setup)
                if not path.exists():
                    missing[stage.reads_cache, *_model_of(setup)].append(path)
    for name in CACHES:
        for setup in STAGES[name].jobs_in(study):
            manifest = results / STAGES[name].path().format_map(setup)
            if manifest.exists():
                # A job reads several layers, and all of them again where it has to be repeated.
                yield UsedCache(manifest, tuple(missing[name, *_model_of(setup)]))


def bytes_of_shards(manifest: Path) -> int:
    """Return the bytes of the shards that lie beside a manifest."""
    return sum(path.stat().st_size for path in manifest.parent.glob("*.safetensors"))


def made_from_weights(study: Study) -> Mapping[Weights, list[str]]:
    """Return what a study makes directly from each checkpoint's weights, below its results.

    A job that reads the manifest of a checkpoint and loads its model writes these; what reads the
    tokenizer alone is not among them, nor are trainings that the study makes nothing from.
    """
    made: dict[Weights, list[str]] = defaultdict(list)
    for stage in STAGES.values():
        if stage.weights is not None and stage.name != "pretrain_model":
            for setup in stage.jobs_in(study):
                for read in dict.fromkeys(stage.weights(study, setup)):
                    made[read].append(stage.path().format_map(setup))
    _add_trainings(study, made)
    return made


def _add_trainings(study: Study, made: dict[Weights, list[str]]) -> None:
    """Add the trainings that start from a checkpoint, where something is made from their own."""
    starts = {
        name: (training.start.model, training.start.checkpoint)
        for name, training in study.settings.pretrain.items()
        if training.start is not None
    }
    # A training may start from a checkpoint of another.
    while used := [
        name
        for name in starts
        if any(made[row.model, row.checkpoint] for row in study.sheet if row.pretrained_by == name)
    ]:
        for name in used:
            made[starts.pop(name)].append(STAGES["pretrain_model"].path().format(pretraining=name))


def remove_weights(manifest: CheckpointManifest, downloads: Path) -> dict[str, int]:
    """Remove the weights that lie below `downloads`; return them with their sizes in bytes.

    What was removed before is among them, so that removing again gives the same record. Small
    files stay, the tokenizer among them.
    """
    is_below = Path(manifest.folder).resolve().is_relative_to(downloads.resolve())
    if manifest.commit is None or not is_below:
        return {}
    for path in manifest.weight_files:
        path.unlink(missing_ok=True)
    # What the Hub's client left of downloads that were killed is of no use to it.
    for path in (downloads / manifest.model / manifest.checkpoint).rglob("*.incomplete"):
        path.unlink()
    return {name: facts.bytes for name, facts in manifest.weights.items()}


def _model_of(setup: Setup) -> tuple[str, ...]:
    """Return what a cache and its readers are of: a checkpoint, or a classifier with its seed."""
    return tuple(setup.get(name, "") for name in ("model", "checkpoint", "seed"))
