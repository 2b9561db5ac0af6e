"""Manifests of checkpoints: which files make one up, where they lie, and their digests."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from glossogenesis.exceptions import StudyError
from glossogenesis.hub.files import forget_others
from glossogenesis.models.checkpoints import (
    CheckpointLocation,
    HubAccess,
    LocalCheckpoint,
    fetch_files,
    holds_tokenizer,
    local_files,
    tokenizer_digest,
)
from glossogenesis.models.weight_files import check_weights, read_config, surplus_weights
from glossogenesis.storage.files import Count, PlainName, read_json, record_of, write_json
from glossogenesis.storage.provenance import file_digest

CLASSIFIER_SOURCE = "classifier"
"""The `source` of a checkpoint that the workflow fine-tuned to classify posts."""


@dataclass(frozen=True)
class WeightsFacts:
    """What a manifest records of a weights file."""

    bytes: Count
    sha256: str


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
    weights: dict[PlainName, WeightsFacts]
    """By name of the weights file."""
    provenance: dict[str, Any]
    subfolder: str | None = None
    """Where in a Hub repository the checkpoint lies."""
    remote_code: str | None = None
    """The Hub repository whose own code the checkpoint may run; none if None."""

    def write(self, path: Path) -> None:
        """Write the manifest as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path, *, weights: bool = True) -> CheckpointManifest:
        """Read a manifest and check that its files are still there in full.

        A Hub checkpoint's files that are gone are fetched again, by the recorded commit; without
        `weights`, for jobs that read the tokenizer alone, they are not asked for. StudyError names
        the missing or truncated file and how to remake it.
        """
        content = read_json(path)
        try:
            manifest = record_of(cls, content)
        except ValueError as error:
            raise StudyError(
                f"{path}: not a checkpoint manifest ({error}); delete it and rerun"
            ) from None
        if not weights:
            manifest._require_tokenizer(path)
            return manifest
        if manifest.commit is not None and manifest._first_changed() is not None:
            manifest.fetch_again(path)
        if (changed := manifest._first_changed()) is not None:
            file, size, recorded = changed
            state = "missing" if size is None else f"{size} bytes long"
            raise StudyError(
                f"{file}: {state}, but {path} records {recorded} bytes; {manifest._fix}"
            )
        if [file.name for file in check_weights(Path(manifest.folder))] != list(manifest.weights):
            raise StudyError(
                f"{manifest.folder}: holds other weights, which would be loaded instead of "
                f"{', '.join(manifest.weights)}, which {path} records; remove them, or fetch again "
                "with `snakemake --forcerun fetch_checkpoint`"
            )
        # A model with a damaged weight still runs: whoever loads it reads every byte anyway.
        for file, facts in zip(manifest.weight_files, manifest.weights.values(), strict=True):
            if file_digest(file) != facts.sha256:
                raise StudyError(
                    f"{file}: damaged, its SHA-256 is not the one that {path} records; "
                    f"{manifest._fix}"
                )
        return manifest

    def _first_changed(self) -> tuple[Path, int | None, int] | None:
        """Return the first weights file of another size than recorded, and both sizes."""
        for file, facts in zip(self.weight_files, self.weights.values(), strict=True):
            size = file.stat().st_size if file.is_file() else None
            if size != facts.bytes:
                return file, size, facts.bytes
        return None

    @property
    def weight_files(self) -> list[Path]:
        """The weights files, in the order of `weights`."""
        return [Path(self.folder) / name for name in self.weights]

    def _require_tokenizer(self, path: Path) -> None:
        """Check that the tokenizer is there; one of the checkpoint's own repository comes back."""
        folder = Path(self.tokenizer_folder)
        if self.commit is not None and self._has_own_tokenizer and not holds_tokenizer(folder):
            self.fetch_again(path, weights=False)
        if not holds_tokenizer(folder):
            raise StudyError(f"{folder}: the tokenizer that {path} names is missing; {self._fix}")

    @property
    def _has_own_tokenizer(self) -> bool:
        """Whether the tokenizer is of the same repository or folder as the weights."""
        return Path(self.folder).is_relative_to(self.tokenizer_folder)

    def fetch_again(self, path: Path, *, weights: bool = True) -> None:
        """Fetch a Hub checkpoint whose files were removed, and compare it with its manifest `path`.

        Several jobs may do so at once. StudyError as in `models.checkpoints.fetch_files`, or where
        the SHA-256 of a weights file is not the recorded one.
        """
        depth = len(PurePosixPath(self.subfolder or "").parts)
        folder = Path(self.folder)
        root = folder.parents[depth - 1] if depth else folder
        location = CheckpointLocation(self.source, self.commit, self.subfolder, self.remote_code)
        access = HubAccess(folder=root)
        if access.is_offline:
            raise StudyError(
                f"{folder}: its files are gone, and HF_HUB_OFFLINE or `hub.offline` forbids to "
                f"fetch {self.source}@{self.commit} again; run where the Hub can be reached"
            )
        print(f"{folder}: files are gone; fetching {self.source}@{self.commit}", flush=True)
        fetch_files(location, weights=weights, access=access)
        if not weights:
            return
        for file, facts in zip(self.weight_files, self.weights.values(), strict=True):
            if not file.is_file() or file_digest(file) != facts.sha256:
                raise StudyError(
                    f"{file}: the Hub's file at commit {self.commit} is not the one that {path} "
                    "records; fetch again with `snakemake --forcerun fetch_checkpoint`"
                )

    def check_tokenizer(self, digest: str, file: Path) -> None:
        """StudyError where text in `file` was tokenised by another tokenizer; `digest` is its."""
        if digest != self.tokenizer_digest:
            raise StudyError(
                f"{file}: tokenised by another tokenizer than that of {self.model} "
                f"{self.checkpoint}; remake it, or give the checkpoint another model name in the "
                "sheet"
            )

    @property
    def _fix(self) -> str:
        if self.source.startswith("pretrain:"):
            return "remake it with `snakemake --forcerun pretrain_model`"
        if self.source == CLASSIFIER_SOURCE:
            return "remake it with `snakemake --forcerun finetune_classifier`"
        return "restore the file, or fetch again with `snakemake --forcerun fetch_checkpoint`"

    @property
    def origin(self) -> dict[str, Any]:
        """What the provenance of an artifact says of the checkpoint that it was made from."""
        return {"model": self.model, "checkpoint": self.checkpoint, "revision": self.commit}

    @property
    def location(self) -> CheckpointLocation:
        """The local folder that the model is loaded from."""
        return CheckpointLocation(self.folder, remote_code=self.remote_code)

    @property
    def tokenizer_location(self) -> CheckpointLocation:
        """The local folder that the tokenizer is loaded from."""
        # Nobody allowed the code of a tokenizer from elsewhere.
        code = self.remote_code if self._has_own_tokenizer else None
        return CheckpointLocation(self.tokenizer_folder, remote_code=code)


def describe_checkpoint(
    location: CheckpointLocation,
    *,
    model: str,
    checkpoint: str,
    source: str,
    provenance: dict[str, Any],
    tokenizer: CheckpointLocation | None = None,
    access: HubAccess | None = None,
) -> CheckpointManifest:
    """Find or download a checkpoint's files and describe them.

    `source` is what the sheet says, `location` where that leads; `tokenizer` names another place to
    take the tokenizer from; `access` says how the Hub is used. StudyError as in
    `models.checkpoints.local_files` and `models.weight_files.check_weights`.
    """
    access = access or HubAccess()
    files: LocalCheckpoint = local_files(location, access=access)
    weights = check_weights(files.folder)
    if surplus := surplus_weights(files.folder):
        print(
            f"{files.folder}: loaded are {', '.join(path.name for path in weights)}; beside them "
            f"lie weights that are not loaded: {', '.join(surplus)}"
        )
    tokenizer_folder = files.tokenizer_folder
    if tokenizer is not None:
        # What another repository gives is small and stays in the Hub's cache.
        elsewhere = replace(access, folder=None)
        found = local_files(tokenizer, weights=False, access=elsewhere)
        tokenizer_folder = found.tokenizer_folder
    used = [one for one in (location, tokenizer) if one is not None]
    forget_others(access.record, [(one.source, one.revision) for one in used])
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
            path.name: WeightsFacts(path.stat().st_size, file_digest(path)) for path in weights
        },
        provenance=provenance,
        subfolder=location.subfolder,
        remote_code=location.remote_code,
    )
