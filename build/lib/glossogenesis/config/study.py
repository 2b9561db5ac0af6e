"""A study: one YAML file and its sheets, checked as a whole before anything runs."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from glossogenesis.config.concepts import ConceptsSettings
from glossogenesis.config.languages import LanguageSettings
from glossogenesis.config.lexicon import LexiconSettings
from glossogenesis.config.models import ModelSettings
from glossogenesis.config.pretrain import PretrainSettings
from glossogenesis.config.section import LanguageCode, Name, Section
from glossogenesis.config.sheet import Checkpoint, read_sheet
from glossogenesis.errors import StudyError


class StudySettings(Section):
    """The whole of a study file."""

    study: Name
    """The study's name; recorded in every artifact."""
    description: str = ""
    """What the study asks, for people."""
    checkpoints: str
    """The checkpoint sheet; a relative path counts from the study file's folder."""
    lexicon: LexiconSettings
    languages: Annotated[dict[LanguageCode, LanguageSettings], Field(min_length=1)]
    models: Annotated[dict[Name, ModelSettings], Field(min_length=1)]
    pretrain: dict[Name, PretrainSettings] = Field(default_factory=dict)
    """Models that the workflow trains itself; the sheet names them as `pretrain:NAME`."""
    concepts: ConceptsSettings | None = None
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
        """Resolve a path written in the study from its file's folder, relative to here if it can."""
        resolved = self.file.parent / Path(written).expanduser()
        if Path(written).expanduser().is_absolute():
            return str(resolved)
        return os.path.relpath(resolved)

    @property
    def lexicon_path(self) -> str:
        """The lexicon file."""
        return self.path(self.settings.lexicon.path)

    @property
    def concepts(self) -> ConceptsSettings:
        """The concepts section; StudyError where the study has none."""
        if self.settings.concepts is None:
            raise StudyError(f"{self.file}: no section `concepts`; add it or ask for other targets")
        return self.settings.concepts


def load_study(file: Path | str) -> Study:
    """Read and check a study file; StudyError names the file, the key and the mend."""
    file = Path(file)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{file}: no such study file") from None
    except UnicodeDecodeError:
        raise StudyError(f"{file}: not UTF-8 text; save the study as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "unreadable"
        raise StudyError(f"{file}{place}: not valid YAML ({problem})") from None
    if not isinstance(content, dict):
        raise StudyError(f"{file}: a study is a mapping of keys; see config.yaml")
    return check_study(content, file)


def check_study(content: Mapping[str, Any], file: Path) -> Study:
    """Check the content of a study file and read its sheet; StudyError as in `load_study`."""
    try:
        settings = StudySettings.model_validate(content)
    except ValidationError as error:
        raise StudyError(_first_error_line(error, file)) from None
    study = Study(settings, file, ())
    study = Study(settings, file, read_sheet(Path(study.path(settings.checkpoints))))
    _check_models(study)
    _check_languages(study)
    return study


def _first_error_line(error: ValidationError, file: Path) -> str:
    """Say what is wrong first in one line: file, key, problem and mend."""
    problems = error.errors()
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"])
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{file}: unknown key `{key}`{_suggestion(first['loc'])}{more}"
    if first["type"] == "missing":
        return f"{file}: key `{key}` is missing; see config.yaml for its meaning{more}"
    message = first["msg"].removeprefix("Value error, ")
    shown = f" (got {first['input']!r})" if isinstance(first["input"], str | int | float) else ""
    return f"{file}: `{key}`: {message}{shown}{more}"


def _suggestion(location: tuple[int | str, ...]) -> str:
    """Name the known keys nearest to an unknown one."""
    known = _known_keys(location[:-1])
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; known keys are {', '.join(known)}" if known else "; remove it"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section at a location of the study file."""
    sections: dict[str, type[Section]] = {
        "lexicon": LexiconSettings,
        "concepts": ConceptsSettings,
        "languages": LanguageSettings,
        "models": ModelSettings,
        "pretrain": PretrainSettings,
    }
    section = sections.get(str(location[0]), None) if location else StudySettings
    return sorted(section.model_fields) if section else []


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
        _check_pretrained_facts(row, settings.pretrain[name], sheet)


def _check_pretrained_facts(row: Checkpoint, pretraining: PretrainSettings, sheet: str) -> None:
    """The sheet's phase and tokens are those of the pretraining that saves the step."""
    facts = {
        "phase": (row.phase, pretraining.phase_of(row.step)),
        "tokens": (row.tokens, row.step * pretraining.batch * pretraining.context),
    }
    for column, (written, actual) in facts.items():
        if written is not None and written != actual:
            raise StudyError(
                f"{sheet}: checkpoint {row.checkpoint!r} has {column} {written}, but its "
                f"pretraining makes {actual} of step {row.step}; correct the cell"
            )


def _check_languages(study: Study) -> None:
    """Every language that the concepts section names is described."""
    concepts = study.settings.concepts
    if concepts is None:
        return
    known = study.settings.languages
    places = {
        "concepts.target_pairs": {code for pair in concepts.target_pairs for code in pair},
        "concepts.unpatched_pairs": {code for pair in concepts.unpatched_pairs for code in pair},
        "concepts.exclude_related": set(concepts.exclude_related)
        | {code for codes in concepts.exclude_related.values() for code in codes},
        "concepts.pivot": {concepts.pivot} if "en_en" in concepts.settings else set(),
    }
    for key, codes in places.items():
        for code in sorted(codes):
            if code not in known:
                raise StudyError(
                    f"{study.file}: `{key}` names language {code!r}, which `languages` does not "
                    f"describe; add `languages.{code}` (there: {', '.join(known)})"
                )
