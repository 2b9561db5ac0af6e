"""A study: one YAML file and its sheets, checked as a whole before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from glossogenesis.config.concepts import ConceptsSettings
from glossogenesis.config.corpora import CorpusDemo, CorpusSettings
from glossogenesis.config.feature_checks import check_features
from glossogenesis.config.features import FeaturesSettings
from glossogenesis.config.languages import LanguageSettings
from glossogenesis.config.lexicon import LexiconSettings
from glossogenesis.config.messages import first_problem
from glossogenesis.config.models import ModelSettings
from glossogenesis.config.pretrain import DemoText, FileText, PretrainSettings
from glossogenesis.config.section import LanguageCode, Name, Section
from glossogenesis.config.sheet import Checkpoint, read_sheet
from glossogenesis.errors import StudyError
from glossogenesis.storage.text import read_text


class StudySettings(Section):
    """The whole of a study file."""

    study: Name
    """The study's name; recorded in every artifact."""
    description: str = ""
    """What the study asks, for people."""
    checkpoints: str
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
    pathvars: dict[Literal["results", "logs", "benchmarks"], str] = Field(default_factory=dict)
    """Folders of outputs, for example `{results: /scratch/me/results}`."""


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
    def has_concepts(self) -> bool:
        """Whether the concepts study runs."""
        return self.settings.concepts is not None and self.settings.concepts.enabled

    @property
    def has_features(self) -> bool:
        """Whether the features study runs."""
        return self.settings.features is not None and self.settings.features.enabled

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

    def depth_of(self, model: str) -> int | None:
        """The model's number of layers, where the study says it or trains the model."""
        name = self.checkpoints_of(model)[0].pretrained_by
        given = self.settings.models[model].n_layers
        return given if name is None else self.settings.pretrain[name].model.layers

    def layers_of(self, model: str) -> tuple[int, ...]:
        """The layers of the model that the features study covers, ascending."""
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
        content = yaml.safe_load(text)
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


def check_study(content: Mapping[str, Any], file: Path) -> Study:
    """Check the content of a study file and read its sheet; StudyError as in `load_study`."""
    try:
        settings = StudySettings.model_validate(content)
    except ValidationError as error:
        raise StudyError(f"{file}: {first_problem(error, content, StudySettings)}") from None
    study = Study(settings, file, ())
    study = Study(settings, file, read_sheet(Path(study.path(settings.checkpoints))))
    _check_models(study)
    _check_languages(study)
    _check_lexicon(study)
    if study.settings.features is not None:
        check_features(study)
    return study


def _check_models(study: Study) -> None:
    """Every model of the sheet is described, and every pretraining exists and saves its steps."""
    settings = study.settings
    sheet = study.path(settings.checkpoints)
    for row in study.sheet:
        if row.model not in settings.models:
            raise StudyError(
                f"{sheet}: model {row.model!r} is not described in {study.file}; "
                f"add it under `models` (there: {', '.join(settings.models)})"
            )
        name = row.pretrained_by
        if name is None:
            if settings.models[row.model].parameters is None:
                raise StudyError(
                    f"{study.file}: `models.{row.model}.parameters` is missing; give the number "
                    "of weights (such as 1.7e9), from which memory and time are planned"
                )
            continue
        if name not in settings.pretrain:
            raise StudyError(
                f"{sheet}: checkpoint {row.checkpoint!r} has source {row.source!r}, but "
                f"{study.file} has no `pretrain.{name}`; add that section or correct the source"
            )
        saved = settings.pretrain[name].saved_steps
        if row.step not in saved:
            raise StudyError(
                f"{sheet}: checkpoint {row.checkpoint!r} is step {row.step}, which "
                f"`pretrain.{name}.saved_steps` in {study.file} does not save; "
                f"it saves {', '.join(map(str, saved))}"
            )


def _check_lexicon(study: Study) -> None:
    """What needs a lexicon has one, and the parts name models of the sheet."""
    settings = study.settings
    needs = {
        "concepts": settings.concepts is not None,
        **{f"pretrain.{name}.text": isinstance(pretraining.text, DemoText)
           for name, pretraining in settings.pretrain.items()},
        **{f"corpora.{name}.text": isinstance(corpus.text, CorpusDemo)
           for name, corpus in settings.corpora.items()},
    }  # fmt: skip
    for key in (key for key, needed in needs.items() if needed):
        if settings.lexicon is None:
            raise StudyError(f"{study.file}: `{key}` needs a lexicon; add the section `lexicon`")
    for part in ("concepts", "features"):
        section = getattr(settings, part)
        for model in (section.models or ()) if section is not None else ():
            if model not in study.models:
                raise StudyError(
                    f"{study.file}: `{part}.models` names {model!r}, which has no row in "
                    f"{study.path(settings.checkpoints)}; add rows or correct the name"
                )


def _check_languages(study: Study) -> None:
    """Every language that some section names is described."""
    known = study.settings.languages
    for key, codes in _named_languages(study.settings).items():
        for code in sorted(codes):
            if code not in known:
                raise StudyError(
                    f"{study.file}: `{key}` names language {code!r}, which `languages` does not "
                    f"describe; add `languages.{code}` (there: {', '.join(known)})"
                )


def _named_languages(settings: StudySettings) -> dict[str, set[str]]:
    """Return the language codes that the study names outside `languages`, by key."""
    places: dict[str, set[str]] = {}
    if settings.lexicon is not None:
        places["lexicon.columns"] = set(settings.lexicon.columns)
    for name, corpus in settings.corpora.items():
        places[f"corpora.{name}.text"] = set(corpus.text.languages)
    for name, pretraining in settings.pretrain.items():
        text = pretraining.text
        key = f"pretrain.{name}.text"
        if isinstance(text, FileText):
            places[f"{key}.files"] = set(text.files)
        else:
            places[f"{key}.pivot"] = {text.pivot}
    concepts = settings.concepts
    if concepts is not None:
        related = concepts.exclude_related
        places |= {
            "concepts.target_pairs": {code for pair in concepts.target_pairs for code in pair},
            "concepts.unpatched_pairs": {
                code for pair in concepts.unpatched_pairs for code in pair
            },
            "concepts.exclude_related": set(related).union(*related.values()),
            "concepts.pivot": {concepts.pivot} if "en_en" in concepts.settings else set(),
        }
    return places
