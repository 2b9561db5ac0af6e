"""What autoencoders of this library and of SAELens learn from the same batches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich import box
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from glossogenesis.models.activation_order import cached_batches
from glossogenesis.sae.autoencoder import to_sae_space
from glossogenesis.sae.trainer import initial_autoencoder
from glossogenesis.storage.activations.cache import ActivationCache
from sae_programs import HAS_SAE_LENS, OURS, PEER, Setting, our_run, peer_trainer

EPOCHS = 1000
"""More than any run takes; the steps end it."""


@dataclass(frozen=True)
class Quality:
    """One program after training; one row of the table."""

    program: str
    explained_variance: float
    """Of held-out activations of unit norm, with float64 moments."""
    seconds: float


def compare_quality(setting: Setting, batches: list[Tensor], held_out: Tensor) -> list[Quality]:
    """Train every program on the same batches, and compare what it explains of held-out tokens.

    SAELens runs twice: from its own start, whose smaller decoder makes a learning rate mean
    something else, and from the weights that this library starts from.
    """
    start = time.perf_counter()
    run = our_run(setting)
    for batch in batches:
        run.step(batch)
    seconds = time.perf_counter() - start
    found = [Quality(OURS, run.finish([held_out]).winner.explained_variance, seconds)]
    if not HAS_SAE_LENS:
        return found
    for name, same_start in ((f"{PEER}, same start", True), (f"{PEER}, its own start", False)):
        start = time.perf_counter()
        peer = peer_trainer(setting)
        if same_start:
            peer.start_from(
                initial_autoencoder(
                    batches[0], setting.n_latents, "topk", k=setting.k, normalise="none", seed=0
                )
            )
        for batch in batches:
            peer.step(batch)
        seconds = time.perf_counter() - start
        explained = explained_variance(held_out, peer.reconstruct(held_out))
        found.append(Quality(name, explained, seconds))
    return found


def cached_data(
    manifest: Path, batch_size: int, steps: int, device: str
) -> tuple[list[Tensor], Tensor]:
    """Training batches and held-out activations of a cache, of unit norm, float32."""
    cache = ActivationCache.open(manifest)
    source = cached_batches(cache, "train", batch_size, epochs=EPOCHS)
    batches = [unit(batch, device) for batch, _ in zip(source, range(steps), strict=False)]
    held_out = torch.cat([rows.activations for rows in cache.shards("held_out")])
    return batches, unit(held_out, device)


def planted_data(batch_size: int, steps: int, device: str) -> tuple[list[Tensor], Tensor]:
    """Training batches and held-out activations of a planted dictionary, of unit norm."""
    every = [unit(batch, device) for batch in planted_batches(batch_size, steps + 4)]
    return every[:-4], torch.cat(every[-4:])


def planted_batches(batch_size: int, count: int) -> Iterator[Tensor]:
    """Sums of about 12 of 512 directions in 96 dimensions, of unequal frequency, and noise."""
    generator = torch.Generator().manual_seed(0)
    directions = functional.normalize(torch.randn(512, 96, generator=generator), dim=1)
    frequency = torch.arange(1, 513).float().pow(-0.7)
    frequency *= 12 / frequency.sum()
    for _ in range(count):
        fires = torch.rand(batch_size, 512, generator=generator) < frequency
        strengths = torch.rand(batch_size, 512, generator=generator) + 0.5
        noise = 0.02 * torch.randn(batch_size, 96, generator=generator)
        yield (fires * strengths) @ directions + noise


def unit(activations: Tensor, device: str) -> Tensor:
    """Activations divided by their norms, float32."""
    return to_sae_space(activations, "l2")[0].to(device)


def explained_variance(x: Tensor, reconstruction: Tensor) -> float:
    """1 - E|x - x_hat|^2 / (E|x|^2 - |E x|^2), in float64."""
    x, reconstruction = x.double(), reconstruction.double()
    error = (x - reconstruction).square().sum(1).mean()
    variance = x.square().sum(1).mean() - x.mean(0).square().sum()
    return float(1 - error / variance)


def quality_table(rows: list[Quality], setting: Setting) -> Table:
    """Explained variances as a table."""
    table = Table(
        box=box.SIMPLE,
        title=f"width {setting.d_model}, {setting.n_latents} latents, k {setting.k}, "
        f"{setting.total_steps} batches of {setting.batch_size}, rate {setting.learning_rate:g}",
    )
    for heading in ("program", "explained variance", "less than glossogenesis", "seconds"):
        table.add_column(heading, justify="left" if heading == "program" else "right")
    for row in rows:
        table.add_row(
            row.program,
            f"{row.explained_variance:.4f}",
            f"{rows[0].explained_variance - row.explained_variance:+.4f}",
            f"{row.seconds:.1f}",
        )
    return table
