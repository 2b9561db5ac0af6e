"""What the features study needs of the rest of a study: corpora, layers, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glossogenesis.config.languages import LanguageSettings
from glossogenesis.errors import StudyError
from glossogenesis.study.features import InjectionSettings

if TYPE_CHECKING:
    from glossogenesis.study.study import Study


LETTERS_OF = {"Japanese": "Han"}
"""Scripts whose letters another script has too: Japanese is written with Han characters."""


MOST_LAYERS = 1000
"""Layers of a model; the deepest published ones have fewer than 200."""


OTHER_LABELS = ("bilingual", "mixed", "symbol", "unlabelled", "dead")
"""Labels of features that are no languages."""


def check_features(study: Study) -> None:
    """Check section `features` against the study; StudyError names the key and the mend."""
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
