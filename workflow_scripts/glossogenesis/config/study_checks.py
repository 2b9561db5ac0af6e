"""What the parts of a study need of each other: models, pretrainings, languages, a lexicon."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from glossogenesis.errors import StudyError
from glossogenesis.study.inputs import CorpusDemo
from glossogenesis.study.pretrain import DemoText, FileText, PostsText

if TYPE_CHECKING:
    from glossogenesis.study.study import Study, StudySettings


def check_parts(study: Study) -> None:
    """Check that what one part of a study names is there; StudyError names key and mend."""
    _check_models(study)
    _check_starts(study)
    _check_languages(study)
    _check_lexicon(study)


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


def _check_starts(study: Study) -> None:
    """Pretrainings that continue another model start from a row of the sheet, without a circle."""
    settings = study.settings
    sheet = study.path(settings.checkpoints)
    rows = {(row.model, row.checkpoint): row for row in study.sheet}
    for name, pretraining in settings.pretrain.items():
        passed = [name]
        start = pretraining.start
        while start is not None:
            row = rows.get((start.model, start.checkpoint))
            if row is None:
                raise StudyError(
                    f"{study.file}: `pretrain.{passed[-1]}.start` names checkpoint "
                    f"{start.checkpoint!r} of model {start.model!r}, which {sheet} does not have; "
                    "add a row or correct the name"
                )
            if row.pretrained_by is None:
                break
            if row.pretrained_by in passed:
                circle = " from ".join([*passed, row.pretrained_by])
                raise StudyError(
                    f"{study.file}: `pretrain` goes in a circle ({circle}); let one of them start "
                    "from another checkpoint"
                )
            passed.append(row.pretrained_by)
            start = settings.pretrain[row.pretrained_by].start
    for model in study.models:
        if study.trained_size_of(model) is None and settings.models[model].parameters is None:
            raise StudyError(
                f"{study.file}: `models.{model}.parameters` is missing; give the number of weights "
                "(such as 1.7e9), from which memory and time are planned"
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
    pairs: dict[str, tuple[str, str]] = {}
    for pair in product(known, known):
        # Pairs are written with a dash between their codes, which may hold dashes of their own.
        first = pairs.setdefault("-".join(pair), pair)
        if first != pair:
            raise StudyError(
                f"{study.file}: `languages`: the pair {'-'.join(pair)!r} is of {first[0]!r} and "
                f"{first[1]!r} as well as of {pair[0]!r} and {pair[1]!r}; write one of the codes "
                "with `_` in place of `-`"
            )
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
        elif isinstance(text, PostsText):
            places[f"{key}.language"] = {text.language}
        else:
            places[f"{key}.pivot"] = {text.pivot}
        places[f"pretrain.{name}.shares"] = set(pretraining.shares or ())
    if settings.robustness is not None:
        places["robustness.posts.language"] = {settings.robustness.posts.language}
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
