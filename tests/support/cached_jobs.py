"""Training of small autoencoders from a cache of planted directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glossogenesis.sae.jobs import CachedTraining
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.provenance import Provenance
from glossogenesis.study.features import SaeTraining
from support.cached_activations import write_cache
from support.planted_dictionary import planted

PROVENANCE = Provenance("sae", "a-study", {}, {}, "", model="tiny", checkpoint="100", layer=3)
SMALL = SaeTraining(
    latents=64,
    k=3,
    batch_size=128,
    learning_rates=(1e-2, 1e-5),
    warmup_steps=2,
    decay_share=0.2,
    auxk_coefficient=1 / 32,
    auxk=8,
    dead_after_tokens=256,
)


def planted_cache(folder: Path) -> Path:
    """1,700 training tokens and 400 held-out ones of width 16; returns the manifest."""
    data = planted(n_features=32, d_model=16, active=3, rows=2100, noise=0.02)
    return write_cache(folder, data.activations[:1700], data.activations[1700:])


def job(
    folder: Path, manifest: Path, settings: SaeTraining = SMALL, **changes: Any
) -> CachedTraining:
    options: dict[str, Any] = {
        "settings": settings,
        "seed": 0,
        "cache": ActivationCache.open(manifest),
        "warm_start": None,
        "folder": folder / "sae",
        "resume_folder": folder / "resume",
        "provenance": PROVENANCE,
        "on_diverged": "leave_out",
    }
    return CachedTraining(**{**options, **changes})


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "sae").iterdir())}
