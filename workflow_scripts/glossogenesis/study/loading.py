"""A study from its file: loaded, and checked as a whole before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from glossogenesis.exceptions import StudyError
from glossogenesis.hub.files import is_commit
from glossogenesis.storage.files import read_text
from glossogenesis.study.features import InjectionSettings
from glossogenesis.study.frozen import FROZEN_FROM, SHEET_FILE
from glossogenesis.study.inputs import CorpusDemo, LanguageSettings
from glossogenesis.study.pretrain import DemoText, FileText, PostsText
from glossogenesis.study.section import is_local
from glossogenesis.study.sheet import Checkpoint, read_sheet
from glossogenesis.study.study import Study, StudySettings
from glossogenesis.study.yaml_file import (
    check_numbers,
    first_problem,
    load_yaml,
    merged_study,
    path_from,
)

LETTERS_OF = {"Japanese": "Han"}
"""Scripts whose letters another script has too: Japanese is written with Han characters."""


MOST_LAYERS = 1000
"""Layers of a model; the deepest published ones have fewer than 200."""


OTHER_LABELS = ("bilingual", "mixed", "symbol", "unlabelled", "dead")
"""Labels of features that are no languages."""


def load_study(file: Path | str) -> Study:
    """Read and check a study file; StudyError names the file, the key and the fix."""
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


def check_parts(study: Study) -> None:
    """Check that what one part of a study names is there; StudyError names key and fix."""
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


def check_features(study: Study) -> None:
    """Check section `features` against the study; StudyError names the key and the fix."""
    features = study.features
    known = study.settings.corpora
    if features.corpus not in known:
        there = ", ".join(known) or "none"
        raise StudyError(
            f"{study.file}: `features.corpus` names {features.corpus!r}, which `corpora` does not "
            f"have (there: {there}); add `corpora.{features.corpus}`"
        )
    _check_checkpoints(study)
    for model in study.models_of("features"):
        check_layers(study, model)
        check_tokenizer(study, model)
    _check_language_rule(study)
    if features.injection is not None:
        _check_injection(study, features.injection)


def _check_checkpoints(study: Study) -> None:
    """Chosen checkpoints stand in the sheet, and some model is left."""
    sheet = study.path(study.settings.checkpoints)
    for model, names in study.features.checkpoints.items():
        there = [row.checkpoint for row in study.checkpoints_of(model)]
        for name in names:
            if name not in there:
                raise StudyError(
                    f"{study.file}: `features.checkpoints.{model}` names {name!r}, which {sheet} "
                    "does not have; correct the name or add a row"
                )
    if not study.rows_of("features"):
        raise StudyError(f"{study.file}: `features.models` and {sheet} have no model in common")


def check_layers(study: Study, model: str) -> None:
    """The layers of a model are known and within its depth."""
    written = study.settings.models[model].layers
    depth = study.depth_of(model)
    if depth is None:
        if not isinstance(written, tuple):
            raise StudyError(
                f"{study.file}: `models.{model}.n_layers` is missing; give the number of layers, "
                f"or list them in `models.{model}.layers`"
            )
        return
    if depth > MOST_LAYERS:
        raise StudyError(
            f"{study.file}: model {model!r} has {depth} layers, more than {MOST_LAYERS}; correct "
            f"`models.{model}.n_layers`, or `layers` of its pretraining"
        )
    for layer in written if isinstance(written, tuple) else ():
        if layer >= depth:
            raise StudyError(
                f"{study.file}: `models.{model}.layers` names layer {layer}, but the last is "
                f"{depth - 1}; layers are counted from 0"
            )


def check_tokenizer(study: Study, model: str) -> None:
    """A model whose tokenizer is shared is in the sheet and does not share in turn."""
    other = study.settings.models[model].shares_tokenizer_with
    if other is None:
        return
    if other not in study.models or study.settings.models[other].shares_tokenizer_with:
        raise StudyError(
            f"{study.file}: `models.{model}.shares_tokenizer_with` names {other!r}, which is no "
            "model of the sheet with a tokenizer of its own; name one that is"
        )


def _check_language_rule(study: Study) -> None:
    """Labels by script need languages of different scripts."""
    features = study.features
    codes = study.settings.corpora[features.corpus].text.languages
    described = {code: study.settings.languages[code] for code in codes}
    rules = [("features.language.by", features.language.by)]
    rules += [("features.sensitivity.by", by) for by in features.sensitivity.by]
    if taken := [code for code in codes if code in OTHER_LABELS]:
        raise StudyError(
            f"{study.file}: language code {taken[0]!r} is a label of features; use another code"
        )
    for key, by in rules:
        is_latin = [language.script == "Latin" for language in described.values()]
        if by == "paper" and sorted(is_latin) != [False, True]:
            raise StudyError(
                f"{study.file}: `{key}` is 'paper', which tells one language in Latin letters from "
                "one other; use `script` or `document`"
            )
        if by != "document" and (shared := _shared_script(described)):
            raise StudyError(
                f"{study.file}: `{key}` is {by!r}, but {' and '.join(shared)} have the same "
                "script; set it to `document`"
            )


def _shared_script(languages: dict[str, LanguageSettings]) -> list[str]:
    """Return languages that share letters, none where scripts tell all apart."""
    by_letters: dict[str, list[str]] = {}
    for code, language in languages.items():
        letters = LETTERS_OF.get(language.script, language.script)
        by_letters.setdefault(letters, []).append(code)
    return next((codes for codes in by_letters.values() if len(codes) > 1), [])


def _check_injection(study: Study, injection: InjectionSettings) -> None:
    """Injected layers, checkpoints and pairs exist."""
    model = injection_model(study)
    if model not in study.models_of("features"):
        raise StudyError(
            f"{study.file}: `features.injection.model` names {model!r}, which the features study "
            f"does not cover (there: {', '.join(study.models_of('features'))})"
        )
    if injection.sae is not None and injection.sae not in study.features.saes:
        raise StudyError(
            f"{study.file}: `features.injection.sae` names {injection.sae!r}, which "
            f"`features.saes` does not have (there: {', '.join(study.features.saes)})"
        )
    layers = study.layers_of(model)
    for layer in injection.layers:
        if layer not in layers:
            raise StudyError(
                f"{study.file}: `features.injection.layers` names layer {layer}, which "
                f"`models.{model}.layers` does not cover (there: {', '.join(map(str, layers))})"
            )
    names = study.feature_checkpoints(model)
    for key, named in (("source", (injection.source,)), ("targets", injection.targets or ())):
        for checkpoint in named:
            if checkpoint is not None and checkpoint not in names:
                raise StudyError(
                    f"{study.file}: `features.injection.{key}` names {checkpoint!r}, which is no "
                    f"checkpoint of model {model!r} in the features study; correct the name"
                )
    if injection.translation == "prompts" and not study.has_concepts:
        raise StudyError(
            f"{study.file}: `features.injection.translation` is `prompts`, which are those of the "
            "concepts study; enable `concepts`, or give parallel text"
        )


def injection_model(study: Study) -> str:
    """Return the model that features are injected in: `injection.model`, or the first."""
    injection = study.features.injection
    named = injection.model if injection is not None else None
    return named or study.models_of("features")[0]


def check_robustness(study: Study) -> None:
    """Check section `robustness` against the study; StudyError names the key and the fix."""
    sheet = study.path(study.settings.checkpoints)
    for model, checkpoint in study.robustness.models.items():
        there = [row.checkpoint for row in study.checkpoints_of(model)]
        if not there:
            raise StudyError(
                f"{study.file}: `robustness.models` names {model!r}, which has no row in {sheet}; "
                "add rows or correct the name"
            )
        if checkpoint not in there:
            raise StudyError(
                f"{study.file}: `robustness.models.{model}` is {checkpoint!r}, which {sheet} does "
                f"not have (there: {', '.join(there)}); correct the name or add a row"
            )
        check_layers(study, model)
        check_tokenizer(study, model)
    _check_dictionaries(study)


def _check_dictionaries(study: Study) -> None:
    """Top features are fewer than the dictionary has, where its size is known."""
    robustness = study.robustness
    for name, sae in robustness.saes.items():
        for model in robustness.models:
            size = study.trained_size_of(model)
            latents = sae.latents if size is None else sae.latents_of(size.hidden)
            if latents is not None and latents <= robustness.label_features.top:
                raise StudyError(
                    f"{study.file}: `robustness.label_features.top` is "
                    f"{robustness.label_features.top}, but `robustness.saes.{name}` has only "
                    f"{latents} latents for {model!r}; lower the former or enlarge the latter"
                )


def check_remote_code(study: Study) -> None:
    """A model that may run its repository's code names that repository, at full commits.

    StudyError names the first row that is another's or not at a commit.
    """
    sheet = study.path(study.settings.checkpoints)
    for row in study.sheet:
        allowed = getattr(study.settings.models.get(row.model), "remote_code", None)
        if allowed is None:
            continue
        at = f"{sheet}: checkpoint {row.checkpoint!r} of model {row.model!r}"
        if row.source != allowed:
            raise StudyError(
                f"{at} has source {row.source!r}, but `models.{row.model}.remote_code` allows the "
                f"code of {allowed!r} alone; correct one of them, or give it a model of its own"
            )
        if not is_commit(row.revision):
            raise StudyError(
                f"{at} has revision {row.revision!r}, but code is only run from a full commit (40 "
                f"digits), because `models.{row.model}.remote_code` is set; write the commit"
            )
