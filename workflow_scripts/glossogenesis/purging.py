"""Delete activation shards that were used, and keep their manifests: a finished study stays so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.study.sheet import Checkpoint
from glossogenesis.study.study import Study


@dataclass(frozen=True)
class UsedCache:
    """The activation cache of one layer, and what is still to be made by jobs that read it."""

    manifest: Path
    unfinished: tuple[Path, ...]
    """Artifacts of those jobs that are not there yet."""


def caches_of(study: Study, results: Path) -> Iterator[UsedCache]:
    """Yield the caches of a study that exist: of checkpoints, then of classifiers."""
    if study.has_features:
        yield from _caches_of_checkpoints(study, results)
    if study.has_robustness:
        yield from _caches_of_classifiers(study, results)


def _caches_of_checkpoints(study: Study, results: Path) -> Iterator[UsedCache]:
    for row in study.rows_of("features"):
        folder = results / "activations" / row.model / row.checkpoint / study.features.corpus
        layers = study.layers_of(row.model)
        # A job reads several layers, and reads all of them again where it has to be repeated.
        made = [path for layer in layers for path in artifacts_from(study, results, row, layer)]
        missing = tuple(path for path in made if not path.exists())
        for layer in layers:
            manifest = folder / f"layer_{layer}" / "manifest.json"
            if manifest.exists():
                yield UsedCache(manifest, missing)


def _caches_of_classifiers(study: Study, results: Path) -> Iterator[UsedCache]:
    for run in study.robustness.runs:
        for layer in study.layers_of(run.model):
            setup = Path(run.folder, f"layer_{layer}")
            manifest = results / "post_activations" / setup / "manifest.json"
            if manifest.exists():
                made = [
                    results / stage / setup / sae / name
                    for sae in study.robustness.trained
                    for stage, name in (
                        ("post_saes", "sae_weights.safetensors"),
                        ("post_features", "labels.parquet"),
                    )
                ]
                missing = tuple(path for path in made if not path.exists())
                yield UsedCache(manifest, missing)


def artifacts_from(study: Study, results: Path, row: Checkpoint, layer: int) -> list[Path]:
    """Return what the study makes from the activations of one layer."""
    setup = Path(row.model, row.checkpoint, f"layer_{layer}")
    trained = [
        results / "sae" / setup / sae / name
        for sae in study.features.trained
        for name in ("sae_weights.safetensors", "quality.json")
    ]
    collected = [
        results / "features" / setup / sae / "statistics.parquet" for sae in study.features.saes
    ]
    return [*trained, *collected]


def bytes_of_shards(manifest: Path) -> int:
    """Return the bytes of the shards that lie beside a manifest."""
    return sum(path.stat().st_size for path in manifest.parent.glob("*.safetensors"))
