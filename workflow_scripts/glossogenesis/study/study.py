"""A study: one YAML file and its sheets, checked as a whole before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from glossogenesis.config.hub import HubSettings, check_remote_code
from glossogenesis.config.languages import LanguageSettings
from glossogenesis.config.lexicon import LexiconSettings
from glossogenesis.config.limits import check_numbers, load_yaml
from glossogenesis.config.models import ModelSettings
from glossogenesis.config.overrides import merged_study, path_from
from glossogenesis.config.robustness_checks import check_robustness
from glossogenesis.config.study_checks import check_parts
from glossogenesis.errors import StudyError
from glossogenesis.storage.text import read_text
from glossogenesis.study.concepts import ConceptsSettings
from glossogenesis.study.features import FeaturesSettings
from glossogenesis.study.frozen import FROZEN_FROM, SHEET_FILE
from glossogenesis.study.inputs import CorpusSettings
from glossogenesis.study.loading import check_features
from glossogenesis.study.pretrain import ModelSize, PretrainSettings, one_training_a_seed
from glossogenesis.study.robustness import RobustnessSettings
from glossogenesis.study.section import (
    LanguageCode,
    Name,
    OutputFolder,
    PathText,
    Section,
    is_local,
)
from glossogenesis.study.sheet import Checkpoint, read_sheet
from glossogenesis.study.yaml_file import first_problem


class StudySettings(Section):
    """The whole of a study file."""

    study: Name
    """The study's name; recorded in every artifact."""
    description: str = ""
    """What the study asks, for people."""
    checkpoints: PathText
    """The checkpoint sheet; a relative path counts from the study file's folder."""
    lexicon: LexiconSettings | None = None
    """The words that concepts are tested with, and that the demo world's text is made of."""
    languages: Annotated[dict[LanguageCode, LanguageSettings], Field(min_length=1)]
    """The languages of the study, by code; the lexicon has a word of each concept in each."""
    models: Annotated[dict[Name, ModelSettings], Field(min_length=1)]
    """How each model of the checkpoint sheet is loaded and run."""
    pretrain: dict[Name, PretrainSettings] = Field(default_factory=dict)
    """Models that the workflow trains itself; the sheet names them as `pretrain:NAME`."""
    corpora: dict[Name, CorpusSettings] = Field(default_factory=dict)
    """Text that activations are taken from, by name."""
    concepts: ConceptsSettings | None = None
    """Cross-lingual activation patching of few-shot word translation."""
    features: FeaturesSettings | None = None
    """Sparse autoencoders over checkpoints, and what their features are."""
    robustness: RobustnessSettings | None = None
    """Classifiers fine-tuned on several models, and what their decisions rest on."""
    hub: HubSettings = Field(default_factory=HubSettings)
    """How files of the Hugging Face Hub are fetched, and whether they stay."""
    pathvars: dict[Literal["results", "logs", "benchmarks"], OutputFolder] = Field(
        default_factory=dict
    )
    """Folders of outputs, for example `{results: /scratch/me/results}`."""

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


def load_study(file: Path | str) -> Study:
    """Read and check a study file; StudyError names the file, the key and the mend."""
    file = Path(file)
    text = read_text(file, "study file", "name another")
    try:
        content = load_yaml(text, file)
    except StudyError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or "unreadable"
        raise StudyError(
            f"{file}{place}: not valid YAML ({problem}); correct its indentation and brackets"
        ) from None
    if not isinstance(content, dict):
        raise StudyError(f"{file}: a study is a mapping of keys; see config.yaml")
    return check_study(content, file)


def check_study(content: Mapping[str, Any], file: Path, sheet_folder: Path | None = None) -> Study:
    """Check the content of a study file and read its sheet; StudyError as in `load_study`.

    Relative sources in the sheet count from `sheet_folder`, or the file's folder where it is None.

    The copy that a run's jobs read (`study.frozen`) is taken for the file that it was made from,
    with the sheet beside the copy.
    """
    sheet = None
    if FROZEN_FROM in content:
        sheet = file.parent / SHEET_FILE
        file = Path(str(content[FROZEN_FROM]))
        content = {key: value for key, value in content.items() if key != FROZEN_FROM}
    check_numbers(content, file)
    try:
        settings = StudySettings.model_validate(content)
    except ValidationError as error:
        raise StudyError(f"{file}: {first_problem(error, content, StudySettings)}") from None
    study = Study(settings, file, ())
    rows = read_sheet(sheet or Path(study.path(settings.checkpoints)))
    if sheet_folder is not None and sheet is None:
        rows = tuple(_counted_from(file.parent, sheet_folder, row) for row in rows)
    study = Study(settings, file, rows)
    check_parts(study)
    check_remote_code(study)
    if study.settings.features is not None:
        check_features(study)
    if study.settings.robustness is not None:
        check_robustness(study)
    return study


def load_merged(merged: Mapping[str, Any], files: Sequence[Path]) -> tuple[Study, dict[str, Any]]:
    """Check a study of one or several files that Snakemake merged, each with its own paths.

    Returns:
        The study, and its content with all paths counted from the first file's folder.
    """
    together = merged_study(merged, files, StudySettings)
    study = check_study(together.content, together.file, together.sheet_folder)
    return study, together.content


def _counted_from(start: Path, folder: Path, row: Checkpoint) -> Checkpoint:
    if start == folder or not is_local(row.source):
        return row
    return row.model_copy(update={"source": path_from(start, folder, row.source)})
