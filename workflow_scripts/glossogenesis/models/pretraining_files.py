"""What a pretraining run writes: a folder a saved step, and a manifest of them all."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from glossogenesis.models.saved_steps import folder_of_step
from glossogenesis.storage.files import atomic_path, write_json
from glossogenesis.storage.provenance import Provenance, file_digest
from glossogenesis.storage.safetensors_file import write_safetensors


@dataclass(frozen=True)
class TrainedModel:
    """A causal language model in float32 that is being trained, with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    tokenizer_files: tuple[Path, ...] = ()
    """Files that checkpoints get copies of, so that their tokenizer has the digest of the one that
    was loaded; where there are none, transformers saves the tokenizer."""


@dataclass(frozen=True)
class SavedStep:
    """A checkpoint that was saved: where it stands in training, and its files."""

    step: int
    tokens: int
    phase: int
    loss: float | None
    """Mean loss of the steps since the last saved one, in nats a token; None at step 0."""
    folder: str
    files: dict[str, dict[str, Any]]
    """Size in bytes and SHA-256 of each file, by name."""

    def is_whole(self, run: Path) -> bool:
        """Tell whether every file is still there with its digest."""
        paths = {run / self.folder / name: facts for name, facts in self.files.items()}
        return all(
            path.is_file() and file_digest(path) == facts["sha256"] for path, facts in paths.items()
        )


def save_step(
    run: Path,
    trained: TrainedModel,
    provenance: Provenance,
    *,
    step: int,
    tokens: int,
    phase: int,
    loss: float | None,
) -> SavedStep:
    """Write one checkpoint in the transformers format, each file under its name when complete."""
    folder = folder_of_step(run, step)
    if folder.exists():
        shutil.rmtree(folder)
    run.mkdir(parents=True, exist_ok=True)
    draft_prefix = f".{folder.name}."
    for abandoned in run.glob(f"{draft_prefix}*"):
        shutil.rmtree(abandoned)
    with tempfile.TemporaryDirectory(prefix=draft_prefix, dir=run) as draft:
        _save_all_but_weights(Path(draft), trained)
        for file in sorted(Path(draft).iterdir()):
            with atomic_path(folder / file.name) as temporary:
                shutil.copyfile(file, temporary)
    _save_weights(folder / "model.safetensors", trained.model, provenance)
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(folder.iterdir())
    }
    return SavedStep(step, tokens, phase, loss, folder.name, files)


def _save_all_but_weights(folder: Path, trained: TrainedModel) -> None:
    trained.model.config.save_pretrained(folder)
    assert trained.model.generation_config is not None
    trained.model.generation_config.save_pretrained(folder)
    if not trained.tokenizer_files:
        trained.tokenizer.save_pretrained(folder)
    for file in trained.tokenizer_files:
        shutil.copyfile(file, folder / file.name)


def _save_weights(path: Path, model: PreTrainedModel, provenance: Provenance) -> None:
    """Write the weights in float32; a tied output head is left out, as transformers does."""
    tied = model.all_tied_weights_keys
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    with atomic_path(path) as temporary:
        # transformers refuses weights whose metadata does not name the framework.
        write_safetensors(temporary, weights, {"format": "pt", **provenance.to_metadata()})


def write_manifest(path: Path, saved: list[SavedStep], loss: float, provenance: Provenance) -> None:
    """Write the manifest of a finished run; `loss` is the mean over its last tenth of steps."""
    write_json(
        path,
        {
            "checkpoints": [asdict(step) for step in saved],
            "final_loss": loss,
            "provenance": asdict(provenance),
        },
    )
