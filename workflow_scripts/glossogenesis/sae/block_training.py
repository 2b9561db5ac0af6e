"""Train the autoencoders of several layers one after the other, each as if it were alone."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from glossogenesis.errors import StudyError
from glossogenesis.sae.cached_training import CachedTraining, train_from_cache
from glossogenesis.sae.files import CONFIG_FILE, WEIGHTS_FILE, read_own_facts, read_sae
from glossogenesis.sae.outcome import TRAINING_FILE
from glossogenesis.storage.provenance import Provenance, settings_digest
from glossogenesis.storage.tables import read_provenance


def train_block(
    jobs: Sequence[CachedTraining],
    resume_folder: Path,
    *,
    device: torch.device | str,
    seconds_between_states: float = 60.0,
) -> None:
    """Train each layer; all go to their folders when the last is done.

    Until then they wait in their resume folders, which lie in `resume_folder`, and an interrupted
    run takes them up: outputs of a job are deleted when it fails, and before it starts again.

    Raises:
        StudyError: as `train_from_cache`; the layers before the one that it names are not lost.
    """
    for job in jobs:
        if not is_trained(job.resume_folder, job.provenance):
            train_from_cache(
                replace(job, folder=job.resume_folder),
                device=device,
                seconds_between_states=seconds_between_states,
            )
    for job in jobs:
        job.folder.mkdir(parents=True, exist_ok=True)
        for name in (TRAINING_FILE, CONFIG_FILE, WEIGHTS_FILE):
            shutil.move(job.resume_folder / name, job.folder / name)
    shutil.rmtree(resume_folder)


def is_trained(folder: Path, provenance: Provenance) -> bool:
    """Tell whether a folder holds all files, undamaged, of a training of just this origin."""
    try:
        read_sae(folder)
        recorded = (
            read_own_facts(folder)["provenance"],
            asdict(read_provenance(folder / TRAINING_FILE)),
        )
    except StudyError:
        return False
    # Facts are what came out of the training.
    expected = settings_digest(asdict(provenance) | {"facts": {}})
    return all(settings_digest(each | {"facts": {}}) == expected for each in recorded)
