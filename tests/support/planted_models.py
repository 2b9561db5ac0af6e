"""Two classifiers that are made to differ in a known way, and one that guesses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

LABELS = ("cars", "cooking", "music", "pets")
POSTS = 10
"""Held-out posts of each label."""


@dataclass(frozen=True)
class Planted:
    """What one model is made to do; its checkpoint is always `end`."""

    model: str
    layers: tuple[int, ...] = (0, 1, 2)
    wrong: tuple[int, ...] = (0, 10, 20)
    """Posts that it gives the next label."""
    pairs: int = 30
    """Pairs of each set; 0 for a classifier at chance."""
    effect: float = 0.1
    """Mean effect of the MLP of the last layer; attention has a tenth, earlier layers half each."""
    kept: int = 35
    """Posts that are right with the circuit alone, without it a third as many."""
    specific: int = 12
    """Label-specific features, of 20 that distinguish a label and 50 in all."""
    drop: int = 4
    """Posts of each label that are lost without its top features at layer 1; half elsewhere."""
    share: float = 0.4
    """Share of the most frequent token; surface forms have 0.1 more."""
    survival: float = 0.5
    """Mean survival at the least k; 0.1 more at the next."""
    tokenizer: str = "shared"
    n_layers: int = 3
    seed: int = 0
    """Of its classifier."""

    @property
    def folder(self) -> Path:
        """Its folder below a stage's."""
        return Path(self.model, "end", f"seed_{self.seed}")


FIRST = Planted("first")
OTHER = Planted(
    "other", wrong=(1, 11), effect=0.2, kept=30, specific=16, drop=2, share=0.3, survival=0.6
)
CHANCE = Planted("guessing", wrong=tuple(range(30)), pairs=0)


def without_tokenizer(model: Planted) -> Planted:
    """The same model with a tokenizer of its own."""
    return replace(model, tokenizer=f"tokens of {model.model}")
