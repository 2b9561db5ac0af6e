"""Manifests of checkpoints: which files make one up, where they lie, and their digests."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError
from glossogenesis.models.files import (
    CheckpointLocation,
    LocalCheckpoint,
    check_weights,
    local_files,
    read_config,
    tokenizer_digest,
)
from glossogenesis.provenance import file_digest
from glossogenesis.storage.atomic import read_json, write_json

CLASSIFIER_SOURCE = "classifier"
"""The `source` of a checkpoint that the workflow fine-tuned to classify posts."""


@dataclass(frozen=True)
class CheckpointManifest:
    """The artifact `results/checkpoints/{model}/{checkpoint}/manifest.json`.

    A classifier's, under `results/classifiers/`, is one too.
    """

    model: str
    checkpoint: str
    source: str
    revision: str | None
    commit: str | None
    """The resolved commit of a Hub checkpoint."""
    folder: str
    tokenizer_folder: str
    tokenizer_digest: str
    architecture: str
    weights: dict[str, dict[str, Any]]
    """Size in bytes and SHA-256 of each weights file, by name."""
    provenance: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write the manifest as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> CheckpointManifest:
        """Read a manifest and check that its files are still there in full.

        StudyError names the missing or truncated file and how to remake it.
        """
        try:
            manifest = cls(**read_json(path))
        except TypeError:
            raise StudyError(f"{path}: not a checkpoint manifest; delete it and rerun") from None
        for name, facts in manifest.weights.items():
            file = Path(manifest.folder) / name
            size = file.stat().st_size if file.is_file() else None
            if size != facts["bytes"]:
                state = "missing" if size is None else f"{size} bytes long"
                raise StudyError(
                    f"{file}: {state}, but {path} records {facts['bytes']} bytes; {manifest._mend}"
                )
        return manifest

    @property
    def _mend(self) -> str:
        if self.source.startswith("pretrain:"):
            return "remake it with `snakemake --forcerun pretrain_model`"
        if self.source == CLASSIFIER_SOURCE:
            return "remake it with `snakemake --forcerun finetune_classifier`"
        return "restore the file, or fetch again with `snakemake --forcerun fetch_checkpoint`"

    @property
    def location(self) -> CheckpointLocation:
        """The local folder that the model is loaded from."""
        return CheckpointLocation(self.folder)

    @property
    def tokenizer_location(self) -> CheckpointLocation:
        """The local folder that the tokenizer is loaded from."""
        return CheckpointLocation(self.tokenizer_folder)


def describe_checkpoint(
    location: CheckpointLocation,
    *,
    model: str,
    checkpoint: str,
    source: str,
    provenance: dict[str, Any],
    tokenizer: CheckpointLocation | None = None,
) -> CheckpointManifest:
    """Find or download a checkpoint's files and describe them.

    `source` is what the sheet says, `location` where that leads; `tokenizer` names another place to
    take the tokenizer from. StudyError as in `models.files.local_files` and `check_weights`.
    """
    files: LocalCheckpoint = local_files(location)
    weights = check_weights(files.folder)
    tokenizer_folder = files.tokenizer_folder
    if tokenizer is not None:
        tokenizer_folder = local_files(tokenizer, weights=False).tokenizer_folder
    return CheckpointManifest(
        model=model,
        checkpoint=checkpoint,
        source=source,
        revision=location.revision,
        commit=files.commit,
        folder=str(files.folder),
        tokenizer_folder=str(tokenizer_folder),
        tokenizer_digest=tokenizer_digest(tokenizer_folder),
        architecture=str(read_config(files.folder).get("model_type")),
        weights={
            path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path)}
            for path in weights
        },
        provenance=provenance,
    )
