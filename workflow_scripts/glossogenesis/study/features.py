"""Section `features`: sparse autoencoders over checkpoints, and what their features are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from glossogenesis.config.sae import SaeSettings, check_sae_names, trained_saes
from glossogenesis.study.section import IsPath, LanguagePair, Name, PathText, Section

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Layer = Annotated[int, Field(ge=0)]
Linkage = Literal["single", "average", "complete"]
LanguageBy = Literal["script", "document", "paper"]


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
    """Maximum over activations of the feature where it fired, or over all outputs of the encoder
    (as published)."""
    examples: Positive = 50
    """Examples that every feature is measured with, drawn with the seed from all that it has; one
    with fewer gets no label."""


class MonosemanticityRule(Section):
    """How tokens are grouped into meanings: 1 - H_semantic / H_token (Inaba et al. 2025)."""

    embedding: (
        Literal["input", "unembedding"] | Annotated[str, Field(pattern=r"\.safetensors$"), IsPath]
    ) = "input"
    """Vectors of tokens: those of the model's last checkpoint, or a safetensors file of the user's
    own with a tensor `embedding` [token, dimension]."""
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
    """What stands for no information: zeros, or the mean activation; both are recorded, and this
    one is in the table's `recovered`."""


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
    """Whose norm the injected sum is multiplied by, where autoencoders normalise."""
    positions: Literal["all", "last"] = "all"
    """Positions that are changed: all, or the last of each sequence."""
    mode: Literal["add", "replace"] = "add"
    """Whether the injected sum is added, or takes the place of what it explains."""
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


class FeaturesSettings(Section):
    """The features study."""

    enabled: bool = True
    """Whether the study runs."""
    models: tuple[Name, ...] | None = None
    """Models of the sheet that it covers; all where absent."""
    checkpoints: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] = Field(
        default_factory=dict
    )
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
