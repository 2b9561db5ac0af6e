"""A study: one YAML file and its sheets, checked as a whole before anything runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from glossogenesis.exceptions import StudyError
from glossogenesis.study.concepts import ConceptsSettings
from glossogenesis.study.features import FeaturesSettings
from glossogenesis.study.inputs import (
    CorpusSettings,
    HubSettings,
    LanguageSettings,
    LexiconSettings,
    ModelSettings,
)
from glossogenesis.study.pretrain import ModelSize, PretrainSettings, one_training_a_seed
from glossogenesis.study.robustness import RobustnessSettings
from glossogenesis.study.section import LanguageCode, Name, OutputFolder, PathText, Section
from glossogenesis.study.sheet import Checkpoint


class StudySettings(Section):
    """The whole of a study file."""

    study: Name
    """The study's name. It is recorded in every artifact."""
    description: str = ""
    """What the study asks, for people."""
    checkpoints: PathText
    """The checkpoint sheet (docs/study.md#the-checkpoint-sheet); a relative path counts from the
    study file's folder."""
    lexicon: LexiconSettings | None = None
    """The words that the concepts study tests with and that text of the demo world is made of; both
    need it. See docs/study.md#lexicon."""
    languages: Annotated[dict[LanguageCode, LanguageSettings], Field(min_length=1)]
    """The languages of the study, by code (`en`, `yue`); the lexicon has a word of each concept in
    each. See docs/study.md#languages."""
    models: Annotated[dict[Name, ModelSettings], Field(min_length=1)]
    """How each model of the checkpoint sheet is loaded and run, by name; see
    docs/study.md#models."""
    pretrain: dict[Name, PretrainSettings] = Field(default={})
    """Models that the workflow trains itself, by name; the sheet names them as `pretrain:NAME`. See
    docs/study.md#pretrain."""
    corpora: dict[Name, CorpusSettings] = Field(default={})
    """Text that activations are taken from, by name; see docs/study_features.md#corpora."""
    concepts: ConceptsSettings | None = None
    """The concepts study: cross-lingual activation patching of few-shot word translation; see
    docs/study.md#concepts."""
    features: FeaturesSettings | None = None
    """The features study: sparse autoencoders over checkpoints, and what their features are; see
    docs/study_features.md#features."""
    robustness: RobustnessSettings | None = None
    """The robustness study: classifiers fine-tuned on several models, and what their decisions rest
    on; see docs/study_robustness.md."""
    hub: HubSettings = HubSettings()
    """How files of the Hugging Face Hub are fetched, and whether they stay; see docs/hub.md."""
    pathvars: dict[Literal["results", "logs", "benchmarks"], OutputFolder] = Field(default={})
    """Where outputs go: folders for `results`, `logs`, `benchmarks`, such as `{results:
    /scratch/me/results}`."""

    @field_validator("pretrain")
    @classmethod
    def _one_training_a_seed(
        cls, written: dict[str, PretrainSettings]
    ) -> dict[str, PretrainSettings]:
        return one_training_a_seed(written)


@dataclass(frozen=True)
class Study:
    """A checked study with its checkpoint sheet."""

    settings: StudySettings
    file: Path
    sheet: tuple[Checkpoint, ...]

    @property
    def name(self) -> str:
        """The study's name."""
        return self.settings.study

    @property
    def models(self) -> tuple[str, ...]:
        """Models that the sheet has checkpoints of, in the order of the sheet."""
        return tuple(dict.fromkeys(row.model for row in self.sheet))

    def checkpoints_of(self, model: str) -> tuple[Checkpoint, ...]:
        """The model's checkpoints in the order of the sheet."""
        return tuple(row for row in self.sheet if row.model == model)

    def checkpoint(self, model: str, checkpoint: str) -> Checkpoint:
        """One row of the sheet; KeyError where it has none."""
        for row in self.sheet:
            if (row.model, row.checkpoint) == (model, checkpoint):
                return row
        raise KeyError((model, checkpoint))

    def several_trainings(self) -> dict[str, list[str]]:
        """Models of the concepts study that are trainings of one another, by the first.

        Those whose pretrainings differ in their seed alone; models without such are left out.
        """
        found: dict[str, list[str]] = {}
        for model in self.models_of("concepts"):
            name = self.checkpoints_of(model)[0].pretrained_by
            if name is not None:
                seed = self.settings.pretrain[name].seed
                found.setdefault(name.removesuffix(f".seed{seed}"), []).append(model)
        return {models[0]: models for models in found.values() if len(models) > 1}

    def path(self, written: str) -> str:
        """Resolve a path written in the study: from its file's folder, relative to here."""
        # pathlib's own expansion raises where the home of a user is unknown.
        expanded = Path(os.path.expanduser(written))  # noqa: PTH111  # see above
        if expanded.is_absolute():
            return str(expanded)
        return os.path.relpath(self.file.parent / expanded)

    @property
    def lexicon(self) -> LexiconSettings:
        """The lexicon section; StudyError where the study has none."""
        if self.settings.lexicon is None:
            raise StudyError(
                f"{self.file}: no section `lexicon`; add it for the concepts study or demo text"
            )
        return self.settings.lexicon

    @property
    def lexicon_path(self) -> str | None:
        """The lexicon file, None where the study has no lexicon."""
        lexicon = self.settings.lexicon
        return None if lexicon is None else self.path(lexicon.path)

    @property
    def concepts(self) -> ConceptsSettings:
        """The concepts section; StudyError where the study has none."""
        if self.settings.concepts is None:
            raise StudyError(f"{self.file}: no section `concepts`; add it or ask for other targets")
        return self.settings.concepts

    @property
    def features(self) -> FeaturesSettings:
        """The features section; StudyError where the study has none."""
        if self.settings.features is None:
            raise StudyError(f"{self.file}: no section `features`; add it or ask for other targets")
        return self.settings.features

    @property
    def robustness(self) -> RobustnessSettings:
        """The robustness section; StudyError where the study has none."""
        if self.settings.robustness is None:
            raise StudyError(
                f"{self.file}: no section `robustness`; add it or ask for other targets"
            )
        return self.settings.robustness

    @property
    def has_concepts(self) -> bool:
        """Whether the concepts study runs."""
        return self.settings.concepts is not None and self.settings.concepts.enabled

    @property
    def has_features(self) -> bool:
        """Whether the features study runs."""
        return self.settings.features is not None and self.settings.features.enabled

    @property
    def has_robustness(self) -> bool:
        """Whether the robustness study runs."""
        return self.settings.robustness is not None and self.settings.robustness.enabled

    def rows_of(self, part: Literal["concepts", "features"]) -> tuple[Checkpoint, ...]:
        """The rows of the sheet whose models a part of the study covers."""
        section = getattr(self, part)
        models = section.models or self.models
        chosen = getattr(section, "checkpoints", {})
        return tuple(
            row
            for row in self.sheet
            if row.model in models and row.checkpoint in chosen.get(row.model, (row.checkpoint,))
        )

    def feature_checkpoints(self, model: str) -> tuple[str, ...]:
        """The model's checkpoints that the features study covers, in the order of the sheet."""
        return tuple(row.checkpoint for row in self.rows_of("features") if row.model == model)

    def models_of(self, part: Literal["concepts", "features"]) -> tuple[str, ...]:
        """The models that a part of the study covers, in the order of the sheet."""
        return tuple(dict.fromkeys(row.model for row in self.rows_of(part)))

    def size_of(self, pretraining: str) -> ModelSize | None:
        """The sizes of a model that is pretrained here, None where it starts from another's."""
        settings = self.settings.pretrain[pretraining]
        if settings.start is None:
            return settings.model
        row = self.checkpoint(settings.start.model, settings.start.checkpoint)
        return None if row.pretrained_by is None else self.size_of(row.pretrained_by)

    def trained_size_of(self, model: str) -> ModelSize | None:
        """The sizes of a model of the sheet, None where the workflow does not set them."""
        name = self.checkpoints_of(model)[0].pretrained_by
        return None if name is None else self.size_of(name)

    def depth_of(self, model: str) -> int | None:
        """The model's number of layers, where the study says it or trains the model."""
        size = self.trained_size_of(model)
        return self.settings.models[model].n_layers if size is None else size.layers

    def layers_of(self, model: str) -> tuple[int, ...]:
        """The layers of the model that autoencoders are trained on, ascending."""
        written = self.settings.models[model].layers
        if isinstance(written, tuple):
            return tuple(sorted(written))
        depth = self.depth_of(model)
        assert depth is not None, "checked in `check_study`"
        every = 1 if written == "all" else written.every
        return tuple(sorted(range(depth - 1, -1, -every)))

    def tokenizer_of(self, model: str) -> str:
        """The model whose tokenizer stands for this model's."""
        return self.settings.models[model].shares_tokenizer_with or model
