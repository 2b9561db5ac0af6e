"""Section `robustness`: classifiers on several models, and what their decisions rest on."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from glossogenesis.study.features import SaeSettings, check_sae_names, trained_saes
from glossogenesis.study.section import Distinct, LanguageCode, Name, PathText, Section, Seeds

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Ablation = Literal["mean", "zero", "resample"]
Pooling = Literal["mean", "max", "last"]
PairSet = Literal["own", "common"]


ABLATIONS: tuple[Ablation, ...] = ("mean", "zero", "resample")
POOLINGS: tuple[Pooling, ...] = ("mean", "max", "last")


class ClassifierSettings(Section):
    """Fine-tuning of a classification head with the whole model, by default as Fukasawa 2026."""

    max_tokens: Annotated[int, Field(ge=2)] = 512
    """Longest post in tokens; longer ones are cut at the end."""
    epochs: Positive = 3
    """Passes over the training posts."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's weight decay."""
    batch_size: Positive = 2
    """Posts in a training step."""
    warmup_share: Share = 0.0
    """Share of the steps in which the learning rate rises from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up: `linear`, `cosine`, or `constant`."""
    seeds: Seeds = (0,)
    """Each draws the head's first weights and the order of posts of one run. Models are compared
    with the variance between runs as error; with one run a model, differences may be the run's."""


class BaselineSettings(Section):
    """TF-IDF and a linear support vector machine, which know nothing of language models."""

    analyzer: Literal["char", "char_wb", "word"] = "char"
    """What is counted: runs of characters (`char`), the same within words (`char_wb`), or words
    between spaces (`word`)."""
    ngrams: tuple[Positive, Positive] = (1, 3)
    """Shortest and longest run that is counted."""
    minimum_posts: Positive = 2
    """Training posts that a run must occur in."""
    c: Annotated[float, Field(gt=0)] = 1.0
    """Inverse strength of the regularisation."""

    @field_validator("ngrams")
    @classmethod
    def _shortest_first(cls, ngrams: tuple[int, int]) -> tuple[int, int]:
        if ngrams[0] > ngrams[1]:
            raise ValueError(f"runs of {ngrams[0]} to {ngrams[1]}; swap them")
        return ngrams


class PairSettings(Section):
    """Pairs of a clean and a corrupted post: classified correctly, unlike in label, else alike."""

    number: Positive = 1000
    """Pairs of each set, no post in two of them; as many as can be made where there are fewer."""
    minimum_cosine: Annotated[float, Field(ge=-1, le=1)] = 0.8
    """Least cosine of the two posts' mean-pooled final states."""
    states: Literal["normed", "residual"] = "normed"
    """Whether final states are taken after the final norm (`normed`) or before it (`residual`)."""
    sets: Annotated[tuple[PairSet, ...], Field(min_length=1), Distinct] = ("own", "common")
    """`own`: pairs that qualify for the model (as published); `common`: for every model."""


class ComponentSettings(Section):
    """Patching attention and MLP outputs at the last position."""

    mode: Literal["fast", "reference"] = "fast"
    """`fast` recomputes the last position alone; `reference` runs whole posts under hooks."""
    outputs: Literal["added", "before_norm"] = "added"
    """What a component's output is where the architecture normalises it: what is `added` to the
    residual stream, or what comes `before_norm`."""


class CircuitSettings(Section):
    """Which components make up the circuit, and how it is tested."""

    thresholds: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1), Distinct
    ] = (0.01, 0.0025, 0.005, 0.02, 0.05)
    """Least mean effect of a component of the circuit: first the one of figures, then others."""
    ablations: Annotated[tuple[Ablation, ...], Field(min_length=1), Distinct] = ABLATIONS
    """What stands in for an ablated component's output: its `mean` over training posts, zeros
    (`zero`), or its output for another post (`resample`)."""
    positions: Annotated[tuple[Literal["last", "all"], ...], Field(min_length=1), Distinct] = (
        "last",
    )
    """Where components are ablated: at the `last` position, or at `all`."""
    reference_posts: Positive = 512
    """Training posts that means are taken over."""
    random_draws: Annotated[int, Field(ge=0)] = 10
    """Random circuits of the same size, as a control."""


class PostActivationSettings(Section):
    """The residual stream that autoencoders of the classifier are trained on."""

    positions: Literal["all", "last"] = "all"
    """Tokens of a post: `all`, or the `last`, which is classified from."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of stored activations: `bfloat16` or `float32`."""
    window: Positive = 65536
    """Tokens that are shuffled together and written as one shard."""
    not_finite: Literal["stop", "drop"] = "stop"
    """What to do where an activation is NaN or infinite: `stop`, or `drop` the token."""


class LabelFeatureSettings(Section):
    """When a feature is specific to a label (Cohen's d between its posts and all others)."""

    pooling: Pooling = "mean"
    """How a post's tokens are summed up for tables and knockout: their `mean`, their `max`, or the
    `last` one; d of all three is recorded."""
    threshold: Annotated[float, Field(gt=0)] = 1.0
    """A feature distinguishes a label where its d exceeds this."""
    top: Positive = 20
    """Features of a label, by d, that knockout and cues look at; also of the top-20 ratio."""
    strongest: Positive = 100
    """Strongest activations of a feature whose tokens are counted as its cues."""
    shuffles: Annotated[int, Field(ge=0)] = 20
    """Random assignments of labels to posts, as a control."""
    resamples: Annotated[int, Field(ge=2)] = 100
    """Random halves of the posts for intervals of shares of features."""


class KnockoutSettings(Section):
    """Removing a label's top features from the residual stream."""

    replace: Literal["error_preserving", "reconstruction"] = "error_preserving"
    """`error_preserving`: their part alone is subtracted; `reconstruction`: the autoencoder's
    output without them stands in for the residual stream."""
    positions: Literal["all", "last"] = "all"
    """Where: at `all` tokens of a post, or at the `last`."""
    draws: Annotated[int, Field(ge=1)] = 10
    """Random sets of features, and of features that fire as often, as controls."""


class VariantSettings(Section):
    """Spellings of one concept, whose features are compared."""

    file: PathText
    """Table of spellings: `concept`, `kind`, `variant` and `sentence`; a relative path counts from
    the study file's folder."""
    carrier: str | None = None
    """One sentence for all spellings, with `{variant}` in it: the second arm, in which nothing but
    the spelling differs."""
    span: Literal["spelling", "sentence"] = "spelling"
    """Whose tokens a feature's activation is the maximum over: those of the `spelling`, or of the
    whole `sentence` that it stands in."""
    ks: Annotated[tuple[Positive, ...], Field(min_length=1), Distinct] = (20, 50, 100)
    """How many of a spelling's strongest features are compared."""

    @field_validator("carrier")
    @classmethod
    def _has_a_place(cls, carrier: str | None) -> str | None:
        if carrier is not None and carrier.count("{variant}") != 1:
            raise ValueError("the carrier sentence needs `{variant}` exactly once")
        return carrier


class ClassifierRun(NamedTuple):
    """One fine-tuning: of a model's checkpoint, with one seed."""

    model: str
    checkpoint: str
    seed: int

    @property
    def folder(self) -> str:
        """Its folder below that of a stage."""
        return f"{self.model}/{self.checkpoint}/seed_{self.seed}"


class PostFiles(Section):
    """Posts from the user's own files."""

    kind: Literal["files"]
    """Files of the user's own."""
    files: Annotated[tuple[PathText, ...], Field(min_length=1)]
    """`.tsv` with a header, `.jsonl`, `.ndjson` or `.json` (an object a line), each perhaps
    compressed (gzip, zstd, bzip2, xz), or `.parquet`; relative paths count from the study file's
    folder."""
    held_out_files: tuple[PathText, ...] = ()
    """Files of held-out posts; where there are none, posts are split at random, label by label."""
    title_column: str | None = "title"
    """The column of titles; null where posts have none."""
    body_column: str = "body"
    """The column of bodies."""
    label_column: str = "label"
    """The column of labels."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file, as written in the study."""
        return (*self.files, *self.held_out_files)


class PostsDemo(Section):
    """Posts of the demo world: Japanese communities with known cues."""

    kind: Literal["demo"]
    """Posts generated from a table of communities."""
    communities: PathText
    """Table of communities: topic words, style markers and spellings."""
    spellings: PathText
    """Table of spellings of the communities' topics: `concept`, `kind`, `variant`, `sentence`."""
    limit: Annotated[int, Field(ge=2)] | None = None
    """Only the first so many communities; all of the table where absent."""
    train_posts: Positive = 120
    """Training posts of each community."""
    held_out_posts: Positive = 60
    """Held-out posts of each community."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file, as written in the study."""
        return (self.communities, self.spellings)


class PostsPerLabel(Section):
    """Posts that are drawn of each label."""

    train: Positive
    """Training posts."""
    held_out: Positive
    """Held-out posts."""


class PostsSettings(Section):
    """Labelled posts, how they are cleaned, drawn, and split."""

    text: Annotated[PostFiles | PostsDemo, Field(discriminator="kind")]
    """Where posts come from."""
    language: LanguageCode
    """The posts' language, one of `languages`."""
    labels: Annotated[int, Field(ge=2)] | None = None
    """Labels that are drawn, of those with enough posts; all where absent."""
    posts_per_label: PostsPerLabel | None = None
    """Posts that are drawn of each label; all where absent."""
    held_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of each label's posts that are held out, where neither files say which nor
    `posts_per_label` how many."""
    separator: str = "\n"
    """What stands between title and body."""
    seed: int = 0
    """Draws demo posts, labels, posts and the split."""

    @model_validator(mode="after")
    def _one_way_to_split(self) -> PostsSettings:
        if self.posts_per_label is not None and "held_out_share" in self.model_fields_set:
            raise ValueError("`posts_per_label` says how many are held out; remove the share")
        return self


class RobustnessSettings(Section):
    """Classifiers on several models, and what their decisions rest on (Fukasawa 2026)."""

    enabled: bool = True
    """Whether the study has this part."""
    models: Annotated[dict[Name, Name], Field(min_length=1)]
    """The checkpoint of each model that is fine-tuned, such as `{gemma: it, gemma-jpn: it}`; the
    others are compared with the first."""
    posts: PostsSettings
    """What is classified."""
    classifier: ClassifierSettings = ClassifierSettings()
    """How the classifiers are trained."""
    baseline: BaselineSettings = BaselineSettings()
    """What they are compared with."""
    pairs: PairSettings = PairSettings()
    """Posts that components are patched between."""
    components: ComponentSettings = ComponentSettings()
    """How components are patched."""
    circuit: CircuitSettings = CircuitSettings()
    """Which components decide, and how that is tested."""
    activations: PostActivationSettings = PostActivationSettings()
    """What the autoencoders are trained on."""
    saes: Annotated[dict[Name, SaeSettings], Field(min_length=1)]
    """Kinds of sparse autoencoders of the classifiers, by name, such as `{l1: {preset:
    fukasawa2026}}`; figures show the first."""
    label_features: LabelFeatureSettings = LabelFeatureSettings()
    """When a feature is specific to a label."""
    knockout: KnockoutSettings = KnockoutSettings()
    """How features are removed."""
    variants: VariantSettings | None = None
    """Spellings that are compared; none where absent."""
    resamples: Annotated[int, Field(ge=100)] = 2000
    """Resamples of bootstrap intervals and of permutation tests."""
    seed: int = 0
    """Draws pairs, controls, orders and resamples."""

    @property
    def runs(self) -> list[ClassifierRun]:
        """Every fine-tuning, model by model, then seed by seed."""
        return [
            ClassifierRun(model, checkpoint, seed)
            for model, checkpoint in self.models.items()
            for seed in self.classifier.seeds
        ]

    @property
    def trained(self) -> dict[str, tuple[str, int]]:
        """Every autoencoder of a classifier: its name in paths, to its key in `saes` and seed."""
        return trained_saes(self.saes)

    @model_validator(mode="after")
    def _distinct_names(self) -> RobustnessSettings:
        check_sae_names(self.saes)
        for name, sae in self.saes.items():
            if sae.warm_start:
                raise ValueError(f"`saes.{name}.warm_start` has no meaning here; remove it")
        return self
