"""Section `concepts`: cross-lingual activation patching of few-shot word translation."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from glossogenesis.study.section import LanguageCode, LanguagePair, Name, Section

PatchedSetting = Literal["seen", "tgt", "en_en", "copy", "self"]
UnpatchedSetting = Literal["tgt_unpatched", "src_unpatched"]

PATCHED_SETTINGS: tuple[str, ...] = get_args(PatchedSetting)
UNPATCHED_SETTINGS: tuple[str, ...] = get_args(UnpatchedSetting)

StartLayers = (
    Literal["all"] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
)


class ConceptsSettings(Section):
    """What is patched into what, and how answers are made and counted."""

    enabled: bool = True
    """Whether the study has this part."""
    models: tuple[Name, ...] | None = None
    """Models of the sheet that are patched; all where absent."""
    items: Annotated[int, Field(ge=1)] = 256
    """Pairs of a source and a target concept, the same for every target language pair."""
    few_shot: Annotated[int, Field(ge=1)] = 5
    """Demonstration lines before the query."""
    seed: int = 42
    """Draws concept pairs, demonstrations, resamples and the halves of `figure_start_layer`."""
    target_pairs: Annotated[tuple[LanguagePair, ...], Field(min_length=1)]
    """Ordered pairs `[input, output]` whose prompts are patched."""
    unpatched_pairs: tuple[LanguagePair, ...] = ()
    """More pairs that are measured without patching, such as `[en, en]` for copying."""
    settings: tuple[PatchedSetting, ...] = ("seen", "tgt", "en_en", "copy", "self")
    """Where patches come from; `seen`: the mean over seen language pairs other than the target's;
    `tgt`: the target pair; `en_en`: the pivot language copying itself; `copy`: the output language
    copying itself; `self`: the target prompt, which must change nothing. See
    docs/methods.md#settings."""
    pivot: LanguageCode = "en"
    """The language of `en_en`; `seen` leaves its pairs out."""
    exclude_related: dict[LanguageCode, tuple[LanguageCode, ...]] = Field(default={})
    """For an output language, languages that share words with it and are left out of `seen`, such
    as `{zh: [yue]}`."""
    start_layers: StartLayers = "all"
    """Start layers, counted from 0: `all` or a list. From a start layer on, every layer's output is
    overwritten at the query word."""
    generate_at: StartLayers = "all"
    """Start layers at which an answer is generated, `all` or a list. Probabilities are recorded at
    all start layers."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 5
    """Tokens of an answer, generated greedily. A longer word is never answered correctly;
    `glossogenesis inspect` on a `patching.parquet` says how many prompts ask for one."""
    space_variants: bool = True
    """Whether the first token of a word after a space counts as its first token too (as
    published)."""
    mode: Literal["fast", "reference"] = "fast"
    """`fast` recomputes only what a patch can change; `reference` runs whole prompts under hooks.
    Both give the same results."""
    on_diverged: Literal["leave_out", "stop"] = "leave_out"
    """What to do with a checkpoint that gives NaN or infinite numbers: `leave_out`, which tables
    and figures then do without and the report names, or `stop`."""
    resamples: Annotated[int, Field(ge=100)] = 2000
    """Resamples of concepts for the intervals of mean probabilities."""
    figure_start_layer: Literal["best"] | Annotated[int, Field(ge=0)] = "best"
    """Start layer in the figures over checkpoints: a number, or `best`, of each half of the
    concepts the one with the highest accuracy of the other half at the last checkpoint."""

    @field_validator("target_pairs", "unpatched_pairs", "settings")
    @classmethod
    def _no_repeats(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        repeated = [value for value in values if values.count(value) > 1]
        if repeated:
            raise ValueError(f"{repeated[0]} appears twice; remove one")
        return values

    @model_validator(mode="after")
    def _generate_within_start_layers(self) -> ConceptsSettings:
        if isinstance(self.start_layers, tuple) and isinstance(self.generate_at, tuple):
            extra = set(self.generate_at) - set(self.start_layers)
            if extra:
                raise ValueError(
                    f"generate_at names layer {min(extra)}, which start_layers does not; "
                    "add it there"
                )
        return self

    @property
    def measured_pairs(self) -> tuple[LanguagePair, ...]:
        """All pairs whose target prompts are run, patched ones first."""
        extra = [pair for pair in self.unpatched_pairs if pair not in self.target_pairs]
        return (*self.target_pairs, *extra)
