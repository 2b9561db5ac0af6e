"""Section `features.saes`: how a sparse autoencoder is built and trained, and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from glossogenesis.study.section import Section, Seeds

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Architecture = Literal["topk", "batchtopk", "relu"]
Preset = Literal["recommended", "inaba2025", "fukasawa2026"]

RECOMMENDED: dict[str, Any] = {
    "architecture": "topk",
    "expansion": 8,
    "k": 32,
    "normalise": "l2",
    "batch_size": 4096,
    "learning_rates": (3e-4, 1e-3, 3e-3),
    "warmup_steps": 100,
    "decay_share": 0.2,
    "auxk_coefficient": 1 / 32,
}

PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "recommended": RECOMMENDED,
    # Inaba et al. 2025, as its published code has it; the grid of rates is not documented.
    "inaba2025": {
        "architecture": "topk",
        "latents": 32768,
        "k": 32,
        "normalise": "l2",
        "batch_size": 32768,
        "learning_rates": (1e-3,),
        "warmup_steps": 1000,
        "adam_epsilon": 6.25e-10,
        "precision": "bfloat16",
    },
    # Fukasawa 2026; optimiser, normalisation and the reduction of the loss are not documented.
    "fukasawa2026": {
        "architecture": "relu",
        "expansion": 4,
        "l1_coefficient": 0.03,
        "normalise": "none",
        "batch_size": 512,
        "epochs": 10,
        "learning_rates": (1e-3,),
    },
}


class SaeTraining(Section):
    """One kind of sparse autoencoder with every choice made: what a training job computes with."""

    architecture: Architecture = "topk"
    """Which latents fire: the `k` largest of each token, the `k` a token largest of a whole batch,
    or all that are positive, with an L1 penalty."""
    latents: Positive | None = None
    """Size of the dictionary; or give `expansion`."""
    expansion: Annotated[float, Field(gt=0)] | None = None
    """Size of the dictionary as a multiple of the width of the residual stream."""
    k: Positive | None = None
    """Latents that fire for a token (`topk`), or on average (`batchtopk`)."""
    l1_coefficient: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the sum of a token's latents in the loss (`relu`)."""
    normalise: Literal["l2", "none"] = "l2"
    """Whether every token's activation is divided by its L2 norm first."""
    batch_size: Positive = 4096
    """Tokens in a training step."""
    epochs: Positive = 1
    """Passes over the training tokens."""
    learning_rates: Annotated[tuple[Rate, ...], Field(min_length=1)] = (1e-3,)
    """Learning rates that train side by side; the one with the lowest held-out loss is kept."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which the learning rate rises from 0."""
    decay_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the steps, at the end, in which the learning rate falls to 0."""
    adam_epsilon: Rate = 1e-8
    """Epsilon of Adam."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the gradient; none where absent."""
    auxk_coefficient: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the auxiliary loss, in which dead latents reconstruct what is left (Gao et al.
    2024); 0 for none."""
    auxk: Positive = 256
    """Dead latents of the auxiliary loss, at most half the width of the residual stream."""
    dead_after_tokens: Positive = 10_000_000
    """Tokens without firing after which the auxiliary loss takes a latent for dead."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the encoder's product; weights and gradients stay in float32."""

    @model_validator(mode="after")
    def _complete(self) -> SaeTraining:
        if (self.latents is None) == (self.expansion is None):
            raise ValueError("give one of `latents` and `expansion`")
        if self.architecture == "relu":
            if self.k is not None:
                raise ValueError("`k` has no meaning for `relu`; remove it")
            if self.auxk_coefficient:
                raise ValueError("`auxk_coefficient` is for `topk` and `batchtopk`; set it to 0")
        elif self.k is None:
            raise ValueError(f"`{self.architecture}` needs `k`")
        elif self.l1_coefficient:
            raise ValueError("`l1_coefficient` is for `relu`; set it to 0")
        if self.k is not None and self.latents is not None and self.k > self.latents:
            raise ValueError(
                f"k is {self.k}, larger than the dictionary of {self.latents} latents; lower it"
            )
        return self

    def latents_of(self, d_model: int) -> int:
        """Size of the dictionary for a residual stream of width `d_model`."""
        return self.latents if self.latents is not None else round((self.expansion or 0) * d_model)


class SaeSettings(SaeTraining):
    """A kind of sparse autoencoder of a study: a preset, and what differs from it."""

    preset: Preset = "recommended"
    """Values of all keys that are not given: `recommended`, or those of a paper."""
    seeds: Seeds = (0,)
    """Seeds of training; features and tracking use the first, the others measure stability."""
    warm_start: bool = False
    """Whether training starts from the autoencoder of the checkpoint before it in the sheet. It
    makes features easier to follow and biases claims on when they emerge."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        preset = given.get("preset", "recommended")
        # Of another type, it is refused by its own key.
        filled = dict(PRESETS[preset]) if preset in list(PRESETS) else {}
        for key, other in (("latents", "expansion"), ("expansion", "latents")):
            if key in given:
                filled.pop(other, None)
        architecture = given.get("architecture", filled.get("architecture"))
        if architecture != filled.get("architecture"):
            # What a preset says of another architecture has no meaning for this one.
            for key in ("k", "l1_coefficient", "auxk_coefficient"):
                filled.pop(key, None)
        return {**filled, **given}

    @property
    def training(self) -> SaeTraining:
        """What a training job computes with, without preset and seeds."""
        return SaeTraining.model_validate(self.model_dump(include=set(SaeTraining.model_fields)))


def sae_name(name: str, seed: int, sae: SaeSettings) -> str:
    """Return the name in paths of one kind of autoencoder with one of its seeds."""
    return name if seed == sae.seeds[0] else f"{name}.seed{seed}"


def trained_saes(saes: Mapping[str, SaeSettings]) -> dict[str, tuple[str, int]]:
    """Return every autoencoder of a section: its name in paths, to its key in `saes` and seed."""
    return {
        sae_name(name, seed, sae): (name, seed) for name, sae in saes.items() for seed in sae.seeds
    }


def check_sae_names(saes: Mapping[str, SaeSettings]) -> None:
    """Refuse, by ValueError, two autoencoders of one name in paths."""
    names = [sae_name(name, seed, sae) for name, sae in saes.items() for seed in sae.seeds]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two autoencoders are called {name}; rename one in `saes`")
