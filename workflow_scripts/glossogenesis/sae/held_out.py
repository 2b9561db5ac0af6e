"""How well an autoencoder does on tokens that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.sae.autoencoder import SparseAutoencoder


@dataclass(frozen=True)
class HeldOutFacts:
    """What one learning rate came to, in the space of the autoencoder."""

    learning_rate: float
    loss: float
    """Mean over tokens of the squared error, and of the L1 penalty; the lowest wins."""
    explained_variance: float
    """1 - E|u - u_hat|^2 / (E|u|^2 - |E u|^2), in float64."""
    l0: float
    """Latents that fire for a token, on average."""
    dead_share: float
    """Latents that fire for no held-out token."""
    tokens: int


class HeldOutSums:
    """Sums over held-out tokens of one autoencoder, in float64."""

    def __init__(self, sae: SparseAutoencoder, l1_coefficient: float) -> None:
        self._sae = sae
        self._l1_coefficient = l1_coefficient
        self._tokens = 0
        self._squared_error = 0.0
        self._latent_sum = 0.0
        self._squares = 0.0
        self._sum = torch.zeros(sae.d_model, dtype=torch.float64)
        self._firings = torch.zeros(sae.n_latents, dtype=torch.int64)

    def add(self, u: Tensor) -> None:
        """Count tokens, float32 [row, d_model] in the autoencoder's space."""
        fired = self._sae.fired(u)
        error = self._sae.decode(fired) - u
        self._tokens += len(u)
        self._squared_error += float(error.double().square().sum())
        self._latent_sum += float(fired.values.double().sum())
        self._squares += float(u.double().square().sum())
        self._sum += u.double().sum(0).cpu()
        counts = torch.bincount(fired.latents, minlength=self._sae.n_latents)
        self._firings += counts.cpu()

    def facts(self, learning_rate: float) -> HeldOutFacts:
        """Return what the counted tokens show."""
        n = max(1, self._tokens)
        variance = self._squares / n - float((self._sum / n).square().sum())
        error = self._squared_error / n
        return HeldOutFacts(
            learning_rate=learning_rate,
            loss=error + self._l1_coefficient * self._latent_sum / n,
            explained_variance=1.0 - error / variance if variance > 0 else float("nan"),
            l0=float(self._firings.sum()) / n,
            dead_share=float((self._firings == 0).double().mean()),
            tokens=self._tokens,
        )


def best_of(found: Iterable[HeldOutFacts]) -> int:
    """Return which has the lowest loss; the first of equal ones."""
    losses = [facts.loss for facts in found]
    return losses.index(min(losses))
