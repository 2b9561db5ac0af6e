"""The programs that train an autoencoder in the benchmark, with equal settings."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

from glossogenesis.sae.training import TrainingPlan, TrainingRun
from glossogenesis.study.features import SaeTraining

HAS_SAE_LENS = importlib.util.find_spec("sae_lens") is not None
OURS = "glossogenesis"
PEER = "SAELens"


@dataclass(frozen=True)
class Setting:
    """What every program gets; all clip gradients to a norm of 1, as SAELens always does."""

    d_model: int
    n_latents: int
    k: int
    batch_size: int
    device: str
    precision: Literal["float32", "bfloat16"]
    learning_rate: float = 1e-3
    total_steps: int = 10_000
    warmup_steps: int = 0
    decay_steps: int = 0


def our_run(setting: Setting) -> TrainingRun:
    """A training of this library, as `train_saes` makes it; it sees activations as they are."""
    training = SaeTraining(
        latents=setting.n_latents,
        k=setting.k,
        normalise="none",
        batch_size=setting.batch_size,
        learning_rates=(setting.learning_rate,),
        warmup_steps=setting.warmup_steps,
        decay_share=setting.decay_steps / setting.total_steps,
        clip_norm=1.0,
        precision=setting.precision,
    )
    plan = TrainingPlan(training, 0, setting.total_steps, described_as="the benchmark")
    return TrainingRun(plan, device=setting.device)


def peer_trainer(setting: Setting, *, sparse_activations: bool = False) -> Any:
    """A training of SAELens; call it only where `HAS_SAE_LENS`."""
    from sae_lens_peer import SaeLensTrainer

    return SaeLensTrainer(setting, sparse_activations=sparse_activations)


def peer_version() -> str | None:
    """Return the version of SAELens, None where it is absent."""
    if not HAS_SAE_LENS:
        return None
    from sae_lens_peer import VERSION

    return str(VERSION)
