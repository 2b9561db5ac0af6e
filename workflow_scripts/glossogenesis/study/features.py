"""Sections `features` and `features.saes`: autoencoders over checkpoints, and their features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from glossogenesis.study.section import IsPath, LanguagePair, Name, PathText, Section, Seeds

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Layer = Annotated[int, Field(ge=0)]
Linkage = Literal["single", "average", "complete"]
LanguageBy = Literal["script", "document", "paper"]

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


class ActivationSettings(Section):
    """How activations reach the training of autoencoders."""

    mode: Literal["cache", "stream"] = "cache"
    """`cache`: written to disk once, read by every analysis; `stream`: the language model runs
    inside the training job, which trains several layers at a time."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of stored activations."""
    window: Annotated[int, Field(ge=1)] = 65536
    """Tokens that are shuffled together and written as one shard; a window of all layers is held in
    memory."""
    not_finite: Literal["stop", "drop"] = "drop"
    """What to do with a token whose activation is NaN or infinite: `drop` it and count it, or
    `stop`; a checkpoint most of whose tokens are dropped has diverged, see `on_diverged`."""


class LanguageRule(Section):
    """When a feature belongs to a language, or to several (after Inaba et al. 2025)."""

    by: LanguageBy = "script"
    """Language of an activating token: by its `script`, by its `document`'s language, or as in the
    published code of the `paper` (Latin letters, else the other language)."""
    share: Annotated[float, Field(ge=0.5, le=1)] = 0.9
    """A feature is of a language where more than this share of its examples with letters is."""
    bilingual_share: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """A feature of no language is bilingual where two languages have at least this share each, on
    two or more token types with letters; else mixed."""
    symbol_share: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """A feature is of symbols where more than this share of its examples has no letter in its
    activating token; other examples alone say of which language a feature is."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.7
    """An example is a sequence with an activation above this share of the feature's maximum."""
    maximum: Literal["fired", "encoder"] = "fired"
    """Maximum over activations of the feature where it `fired`, or over all outputs of the
    `encoder` (as published)."""
    examples: Positive = 50
    """Examples that every feature is measured with, drawn with the seed from all that it has; one
    with fewer gets no label."""


class MonosemanticityRule(Section):
    """How tokens are grouped into meanings: 1 - H_semantic / H_token (Inaba et al. 2025)."""

    embedding: (
        Literal["input", "unembedding"] | Annotated[str, Field(pattern=r"\.safetensors$"), IsPath]
    ) = "input"
    """Vectors of tokens: those of the model's last checkpoint, `input` or `unembedding`, or a
    safetensors file of the user's own with a tensor `embedding` [token, dimension]."""
    linkage: Linkage = "average"
    """Linkage of the agglomerative clustering by cosine distance."""
    cosine: Annotated[float, Field(gt=-1, lt=1)] = 0.5
    """Tokens whose clusters are at least this similar are one meaning."""


class Sensitivity(Section):
    """Other values of ambiguous choices, computed beside the default and reported as a range."""

    share: tuple[Annotated[float, Field(ge=0.5, le=1)], ...] = ()
    """Other values of `language.share`."""
    threshold: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = ()
    """Other values of `language.threshold`."""
    bilingual_share: tuple[Annotated[float, Field(gt=0, le=0.5)], ...] = ()
    """Other values of `language.bilingual_share`."""
    symbol_share: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = ()
    """Other values of `language.symbol_share`."""
    examples: tuple[Positive, ...] = ()
    """Other values of `language.examples`."""
    by: tuple[LanguageBy, ...] = ()
    """Other values of `language.by`."""
    linkage: tuple[Linkage, ...] = ()
    """Other values of `monosemanticity.linkage`."""
    cosine: tuple[Annotated[float, Field(gt=-1, lt=1)], ...] = ()
    """Other values of `monosemanticity.cosine`."""
    embedding: tuple[Literal["input", "unembedding"], ...] = ()
    """Other values of `monosemanticity.embedding`."""


class RecoverySettings(Section):
    """Cross-entropy when the reconstruction is spliced into the model."""

    enabled: bool = True
    """Whether it is measured; it needs the language model."""
    contexts: Positive = 64
    """Held-out sequences of each language that are run."""
    ablation: Literal["zero", "mean"] = "mean"
    """What stands for no information: zeros (`zero`), or the `mean` activation; both are recorded,
    and this one is in the table's `recovered`."""


class TrackingSettings(Section):
    """Features followed from one checkpoint to the next."""

    enabled: bool = True
    """Whether neighbouring checkpoints are matched."""
    minimum_cosine: Share = 0.5
    """Features whose decoders are less similar than this are not the same one."""


class ParallelText(Section):
    """Sentences that are translated under injection, from the user's own files."""

    files: Annotated[dict[str, tuple[PathText, PathText]], Field(min_length=1)]
    """For each pair, written `en-ja`, two files whose lines are translations of each other."""
    sentences: Positive = 100
    """Sentences of each pair that are translated."""
    few_shot: Annotated[int, Field(ge=0)] = 4
    """Demonstration lines before the sentence, taken from the files' first lines."""
    max_new_tokens: Positive = 64
    """Tokens generated at most."""


class InjectionSettings(Section):
    """Features of a later checkpoint added to an earlier one."""

    enabled: bool = True
    """Whether features are injected."""
    model: Name | None = None
    """The model; the first of the study where absent."""
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    """Layers at which features are injected, one at a time."""
    sae: Name | None = None
    """The kind of autoencoder; the first where absent."""
    source: Name | None = None
    """Checkpoint whose features are injected; the last in the sheet where absent."""
    targets: tuple[Name, ...] | None = None
    """Checkpoints that they are injected into; all but the source where absent."""
    alpha: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (1.0,)
    """Strengths of the injection."""
    scale: Literal["source", "target"] = "source"
    """Whose norm the injected sum is multiplied by, where autoencoders normalise: that of the
    `source` or the `target`."""
    positions: Literal["all", "last"] = "all"
    """Positions that are changed: `all`, or the `last` of each sequence."""
    mode: Literal["add", "replace"] = "add"
    """Whether the injected sum is added (`add`), or takes the place of what it explains
    (`replace`)."""
    minimum_monosemanticity: Share = 0.5
    """Bilingual features are injected from this monosemanticity on."""
    draws: Positive = 5
    """Random groups that the groups are compared with."""
    contexts: Positive = 64
    """Held-out sequences of each language for perplexity."""
    translation: Literal["prompts"] | ParallelText | None = None
    """What is translated: the concepts study's prompts, parallel text, or nothing."""
    pairs: tuple[LanguagePair, ...] | None = None
    """Language pairs of `prompts` that are translated; all target pairs where absent."""
    comet: str | None = None
    """A COMET model, such as `Unbabel/wmt22-comet-da`, where the extra `comet` is installed."""


class SaeTraining(Section):
    """One kind of sparse autoencoder with every choice made: what a training job computes with."""

    architecture: Architecture = "topk"
    """Which latents fire: the `k` largest of each token (`topk`), the `k` a token largest of a
    whole batch (`batchtopk`), or all that are positive, with an L1 penalty (`relu`)."""
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
    """Values of all keys that are not given: `recommended`, or those of a paper, `inaba2025` or
    `fukasawa2026`."""
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


class FeaturesSettings(Section):
    """The features study."""

    enabled: bool = True
    """Whether the study runs."""
    models: tuple[Name, ...] | None = None
    """Models of the sheet that it covers; all where absent."""
    checkpoints: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] = Field(default={})
    """Checkpoints of a model that it covers, in any order; all of a model that is not named."""
    corpus: Name
    """The corpus under `corpora` that activations are taken from."""
    activations: ActivationSettings = ActivationSettings()
    """How activations reach training."""
    saes: Annotated[dict[Name, SaeSettings], Field(min_length=1)]
    """Kinds of sparse autoencoders, by name; the first is drawn in figures."""
    language: LanguageRule = LanguageRule()
    """When a feature belongs to a language."""
    monosemanticity: MonosemanticityRule = MonosemanticityRule()
    """How tokens are grouped into meanings."""
    sensitivity: Sensitivity = Sensitivity()
    """Other values of these choices, reported as a range."""
    recovery: RecoverySettings = RecoverySettings()
    """Cross-entropy of the spliced model."""
    tracking: TrackingSettings = TrackingSettings()
    """Features followed over checkpoints."""
    injection: InjectionSettings | None = None
    """Features of a later checkpoint added to an earlier one."""
    on_diverged: Literal["leave_out", "stop"] = "leave_out"
    """What to do with a checkpoint, or an autoencoder, that gives NaN or infinite numbers:
    `leave_out`, which tables and figures then do without and say so, or `stop`."""
    grid: Positive | None = None
    """Setups (model, checkpoint, layer) of the whole grid, such as a paper's, that tables and
    figures state the filled share of; every layer of every row of the sheet where absent."""
    resamples: Annotated[int, Field(ge=100)] = 2000
    """Resamples of every bootstrap interval."""
    seed: int = 0
    """Seed of shuffling, random groups and resampling."""

    @model_validator(mode="after")
    def _distinct_names(self) -> FeaturesSettings:
        check_sae_names(self.saes)
        return self

    @property
    def trained(self) -> dict[str, tuple[str, int]]:
        """Every autoencoder that is trained: its name in paths, to its key in `saes` and seed."""
        return trained_saes(self.saes)


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
