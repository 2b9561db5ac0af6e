"""Free the disk of a study: activation shards and downloads that were used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.study.loading import injection_model
from glossogenesis.study.section import is_local
from glossogenesis.study.sheet import Checkpoint
from glossogenesis.study.study import Study
from glossogenesis.workflow.stages_features import injection_source, injection_targets


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


def fetched_rows(study: Study) -> list[Checkpoint]:
    """Return the rows of the Hub that the study makes something from."""
    return [
        row
        for row in study.sheet
        if row.pretrained_by is None and not is_local(row.source) and made_from_weights(study, row)
    ]


def made_from_weights(study: Study, row: Checkpoint) -> list[str]:
    """Return what the study makes directly from a checkpoint's weights, below its results.

    A job that reads the manifest of a checkpoint and loads its model writes these; what reads the
    tokenizer alone is not among them.
    """
    made = _trained_from(study, row)
    if study.has_concepts and row in study.rows_of("concepts"):
        folder = f"concepts/{row.model}/{row.checkpoint}"
        made += [f"{folder}/states.safetensors", f"{folder}/patching.parquet"]
    if study.has_features and row in study.rows_of("features"):
        made += _made_by_features(study, row)
    if study.has_robustness:
        made += [
            f"classifiers/{run.folder}/manifest.json"
            for run in study.robustness.runs
            if (run.model, run.checkpoint) == (row.model, row.checkpoint)
        ]
    return made


def remove_weights(manifest: CheckpointManifest, downloads: Path) -> dict[str, int]:
    """Remove the weights that lie below `downloads`; return them with their sizes in bytes.

    What was removed before is among them, so that removing again gives the same record. Small
    files stay, the tokenizer among them.
    """
    if manifest.commit is None or not _is_below(Path(manifest.folder), downloads):
        return {}
    for path in manifest.weight_files:
        path.unlink(missing_ok=True)
    # What the Hub's client left of downloads that were killed is of no use to it.
    for path in (downloads / manifest.model / manifest.checkpoint).rglob("*.incomplete"):
        path.unlink()
    return {name: facts.bytes for name, facts in manifest.weights.items()}


def _is_below(folder: Path, downloads: Path) -> bool:
    return folder.resolve().is_relative_to(downloads.resolve())


def _trained_from(study: Study, row: Checkpoint) -> list[str]:
    """Return the trainings that start from a checkpoint and that the study uses."""
    made = []
    for name, training in study.settings.pretrain.items():
        start = training.start
        if start is None or (start.model, start.checkpoint) != (row.model, row.checkpoint):
            continue
        trained = [other for other in study.sheet if other.pretrained_by == name]
        if any(made_from_weights(study, other) for other in trained):
            made.append(f"pretraining/{name}/manifest.json")
    return made


def _made_by_features(study: Study, row: Checkpoint) -> list[str]:
    features = study.features
    setups = [f"{row.model}/{row.checkpoint}/layer_{layer}" for layer in study.layers_of(row.model)]
    caches = f"activations/{row.model}/{row.checkpoint}/{features.corpus}"
    made = [f"{caches}/layer_{layer}/manifest.json" for layer in study.layers_of(row.model)]
    if features.activations.mode == "stream":
        made += [
            f"sae/{setup}/{sae}/sae_weights.safetensors"
            for setup in setups
            for sae in features.trained
        ]
    if features.recovery.enabled:
        made += [f"recovery/{row.model}/{row.checkpoint}/{sae}.parquet" for sae in features.saes]
    if row.checkpoint == study.feature_checkpoints(row.model)[-1]:
        made.append(f"embeddings/{row.model}/tokens.safetensors")
    return made + _made_by_injection(study, row)


def _made_by_injection(study: Study, row: Checkpoint) -> list[str]:
    """Return the injections that read a checkpoint: as their target, or for the later model."""
    injection = study.features.injection
    if injection is None or not injection.enabled:
        return []
    if row.model != injection_model(study):
        return []
    targets = injection_targets(study)
    if row.checkpoint != injection_source(study):
        targets = tuple(target for target in targets if target == row.checkpoint)
    return [
        f"injection/{row.model}/{target}/{name}.parquet"
        for target in targets
        for name in ("perplexity", "translation")
    ]
