"""Section `pretrain`: a small model that the workflow trains itself, and the steps of its training.

They decide what is trained, so they do not stand with the settings, whose code is in no digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from glossogenesis.study.section import LanguageCode, Name, PathText, Section, Seeds

Share = Annotated[float, Field(ge=0, le=1)]
Phase = Annotated[int, Field(ge=1)]
Positive = Annotated[int, Field(ge=1)]

_GIVEN_BY_START = frozenset({"model", "tokenizer_characters"})
"""Settings that have no meaning where training starts from a checkpoint."""


class DemoPhase(Section):
    """What the demo world writes in one phase."""

    pairs: Literal["pivot", "all"]
    """Language pairs of translation documents: `pivot`, those with the pivot language, or `all`."""
    monolingual: Share = 0.1
    """Share of documents that are running text in one language."""
    glossary: Share = 0.3
    """Share of the other documents that are glossaries, lines of a word and its translation; the
    rest are few-shot translation documents."""
    copying: Share = 0.2
    """Share of the documents that are no running text, glossaries or not, whose two languages are
    the same."""
    copying_languages: Literal["pivot", "all"] = "all"
    """Whether copying documents are in the `pivot` language alone or in `all`."""


class DemoText(Section):
    """Text generated from the lexicon: running text, glossaries and few-shot translations."""

    kind: Literal["demo"] = "demo"
    """Text that is generated from the lexicon."""
    pivot: LanguageCode = "en"
    """The language that phases with `pairs: pivot` translate from and into."""
    phases: Annotated[dict[Phase, DemoPhase], Field(min_length=1)]
    """The mixture of each phase, by its number."""
    lines: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]] = (6, 6)
    """Fewest and most lines of a few-shot document."""
    synonyms: Share = 0.15
    """How often a word that has synonyms is replaced by one of them."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Text files that are read: none."""
        return ()

    @field_validator("lines")
    @classmethod
    def _fewest_before_most(cls, lines: tuple[int, int]) -> tuple[int, int]:
        if lines[0] > lines[1]:
            raise ValueError(f"{lines[0]} lines at least and {lines[1]} at most; swap them")
        return lines


class FileText(Section):
    """Text from the user's own files."""

    kind: Literal["files"] = "files"
    """Files of the user's own."""
    files: Annotated[
        dict[LanguageCode, dict[Phase, Annotated[tuple[PathText, ...], Field(min_length=1)]]],
        Field(min_length=1),
    ]
    """Lists of files by language and phase, such as `{en: {1: [en.txt]}}`: plain text with empty
    lines between documents, JSON lines or Parquet with a column `text`, as in corpora
    (docs/study_features.md#text-with-kind-files). Languages are mixed by their `share`. Relative
    paths count from the study file's folder."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every text file, each once, as written in the study."""
        groups = (group for phases in self.files.values() for group in phases.values())
        return tuple(dict.fromkeys(path for group in groups for path in group))


class PostsText(Section):
    """Unlabelled posts of the demo world, without end and the same in every phase."""

    kind: Literal["posts"] = "posts"
    """Posts of the demo world, without labels."""
    communities: PathText
    """Table of communities: topic words, style markers and spellings. Relative paths count from the
    study file's folder."""
    spellings: PathText
    """Table of spellings of the communities' topics."""
    language: LanguageCode
    """The posts' language."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Both tables, as written in the study."""
        return (self.communities, self.spellings)


class StartPoint(Section):
    """A row of the checkpoint sheet."""

    model: Name
    """The model's name in the sheet."""
    checkpoint: Name
    """The checkpoint's name in the sheet."""


class ModelSize(Section):
    """Sizes of a Llama-architecture model."""

    vocabulary: Annotated[int, Field(ge=258)] = 1200
    """Tokens, of which 256 are bytes and one ends documents."""
    hidden: Positive = 128
    """Width of the residual stream."""
    layers: Positive = 6
    """Decoder blocks."""
    heads: Positive = 4
    """Attention heads."""
    key_value_heads: Positive | None = None
    """Heads of keys and values; as many as `heads` where absent."""
    feed_forward: Positive = 384
    """Inner width of the MLP."""
    positions: Positive = 512
    """Longest text that the saved configuration declares."""
    rope_base: Annotated[float, Field(gt=1)] = 10_000.0
    """Base of the rotary positions' wavelengths; a smaller one suits short contexts."""
    tied_embeddings: bool = True
    """Whether the output head is the embedding matrix."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelSize:
        if self.hidden % self.heads:
            raise ValueError(
                f"hidden {self.hidden} is not a multiple of heads {self.heads}; change one"
            )
        if self.hidden // self.heads % 2:
            raise ValueError(
                f"hidden {self.hidden} over heads {self.heads} is odd, and rotary positions need "
                "an even head; change one"
            )
        if self.key_value_heads is not None and self.heads % self.key_value_heads:
            raise ValueError(
                f"heads {self.heads} is not a multiple of key_value_heads "
                f"{self.key_value_heads}; change one"
            )
        return self


class OptimizerSettings(Section):
    """How weights are updated."""

    name: Literal["adamw", "muon"] = "adamw"
    """`adamw`; or `muon`, which updates the blocks' matrices by Muon and all else by AdamW."""
    rate: Annotated[float, Field(gt=0)] = 3e-3
    """Peak learning rate of AdamW."""
    matrix_rate: Annotated[float, Field(gt=0)] = 0.02
    """Peak learning rate of Muon."""
    betas: tuple[Share, Share] = (0.9, 0.95)
    """AdamW's decay of the first and the second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decay of the blocks' matrices; embeddings and norms have none."""
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    """Steps over which the rate rises linearly."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after the warm-up, over all phases together."""
    final_share: Share = 0.1
    """The last rate as a share of the peak; without effect on a constant schedule."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient; a longer one is shortened to it."""


class ShortContext(Section):
    """Steps at the beginning that are trained on shorter sequences."""

    context: Annotated[int, Field(ge=8)]
    """Tokens of a sequence."""
    steps: Positive
    """For how many steps."""


class PretrainSettings(Section):
    """A pretraining run: text, sizes, training, and the steps that are saved."""

    start: StartPoint | None = None
    """The checkpoint that training continues from; random weights where absent. Sizes and tokenizer
    are then the checkpoint's. See docs/study.md#start."""
    text: Annotated[DemoText | FileText | PostsText, Field(discriminator="kind")]
    """Where the text comes from: `kind: demo`, `kind: files` or `kind: posts`."""
    shares: dict[LanguageCode, dict[Phase, Share]] | None = None
    """Share of the text by language and phase in this training; those under `languages` where
    absent."""
    steps: Annotated[dict[Phase, Positive], Field(min_length=1)]
    """Training steps of each phase, such as `{1: 512, 2: 512}`."""
    saved_steps: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Steps after which a checkpoint is saved, counted over all phases from this training's
    own start; 0 is the start itself."""
    model: ModelSize = ModelSize()
    """Sizes of a model with random weights; not given with `start`."""
    context: Annotated[int, Field(ge=8)] = 128
    """Tokens of a training sequence."""
    batch: Positive = 32
    """Sequences of a step."""
    short_contexts: tuple[ShortContext, ...] = ()
    """Training begins with shorter sequences, as many more of them in a step, and lengthens them;
    attention learns where to look sooner. See docs/study.md#short_contexts."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """How weights are updated."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the blocks' arithmetic; weights are kept and saved in float32."""
    seeds: Seeds = (0,)
    """Each draws text, first weights and order of documents of one training. The sheet names that
    of the first as `pretrain:NAME`, others as `pretrain:NAME.seed1`, with rows of their own."""
    tokenizer_characters: Positive = 2_000_000
    """Characters of text that the tokenizer is trained on; not given with `start`."""

    @field_validator("saved_steps")
    @classmethod
    def _rising(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        for before, after in pairwise(steps):
            if after <= before:
                raise ValueError(f"step {after} stands after {before}; list rising steps")
        return steps

    @model_validator(mode="after")
    def _parts_agree(self) -> PretrainSettings:
        expected = list(range(1, len(self.steps) + 1))
        if sorted(self.steps) != expected:
            raise ValueError(f"`steps` has phases {sorted(self.steps)}; number them {expected}")
        if self.saved_steps[-1] > self.total_steps:
            raise ValueError(
                f"`saved_steps` names step {self.saved_steps[-1]}, but training ends at "
                f"{self.total_steps}; remove it or raise `steps`"
            )
        if self.start is None and self.context > self.model.positions:
            raise ValueError(
                f"`context` {self.context} is longer than `model.positions` "
                f"{self.model.positions}; raise the latter"
            )
        for short in self.short_contexts:
            if self.tokens_per_step % short.context:
                raise ValueError(
                    f"`short_contexts` has context {short.context}, which does not divide the "
                    f"{self.tokens_per_step} tokens of a step; change it, `context` or `batch`"
                )
        if isinstance(self.text, DemoText) and sorted(self.text.phases) != expected:
            raise ValueError(
                f"`text.phases` describes phases {sorted(self.text.phases)}, but `steps` has "
                f"{expected}; describe each phase"
            )
        return self

    @model_validator(mode="after")
    def _start_gives_the_model(self) -> PretrainSettings:
        given = [] if self.start is None else sorted(self.model_fields_set & _GIVEN_BY_START)
        if given:
            raise ValueError(
                f"`{given[0]}` and `start` are both given; sizes and tokenizer are those of the "
                f"checkpoint that training starts from: remove `{given[0]}`"
            )
        return self

    @model_validator(mode="after")
    def _shares_are_of_these_phases(self) -> PretrainSettings:
        if self.shares is None:
            return self
        if isinstance(self.text, PostsText):
            raise ValueError("`shares` has no meaning for posts in one language; remove it")
        phases = {phase for by in self.shares.values() for phase, share in by.items() if share}
        if phases != set(self.steps):
            raise ValueError(
                f"`shares` gives text to phases {sorted(phases)}, but `steps` has "
                f"{sorted(self.steps)}; give each of these some text"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_start_gives(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out defaults that stand for nothing, so that no artifact records them."""
        content: dict[str, Any] = handler(self)
        left_out = _GIVEN_BY_START if self.start is not None else frozenset()
        return {key: value for key, value in content.items() if key not in left_out}

    @property
    def seed(self) -> int:
        """The seed of this training."""
        return self.seeds[0]

    @property
    def total_steps(self) -> int:
        """Training steps of all phases together."""
        return sum(self.steps.values())

    @property
    def tokens_per_step(self) -> int:
        """Tokens that a step is trained on."""
        return self.batch * self.context


def one_training_a_seed(written: Mapping[str, PretrainSettings]) -> dict[str, PretrainSettings]:
    """Return every training by the name that the sheet has for it, each with one seed."""
    trainings: dict[str, PretrainSettings] = {}
    for name, settings in written.items():
        for seed in settings.seeds:
            own = name if seed == settings.seed else f"{name}.seed{seed}"
            if own in trainings or (own != name and own in written):
                raise ValueError(f"two trainings are called {own}; rename one in `pretrain`")
            trainings[own] = settings.model_copy(update={"seeds": (seed,)})
    return trainings


def phase_of(settings: PretrainSettings, step: int) -> int:
    """The phase in which a step is trained, counting steps from 1; step 0 is of phase 1."""
    end = 0
    for phase in sorted(settings.steps):
        end += settings.steps[phase]
        if step <= end:
            return phase
    raise ValueError(f"step {step} is beyond the last, {end}")


def context_at(settings: PretrainSettings, step: int) -> int:
    """Tokens of a sequence in a step, counting steps from 1."""
    end = 0
    for short in settings.short_contexts:
        end += short.steps
        if step <= end:
            return short.context
    return settings.context


def folder_of_step(run: Path, step: int) -> Path:
    """Return the folder of one saved step, such as `step_000512`, which sorts by step."""
    return run / f"step_{step:06d}"
