"""The slice of a study that each stage computes with, and the source pairs of each setting.

A stage's dict holds only what changes its results: a checkpoint added to the sheet is in the slices
of aggregates alone, and speed settings such as batch sizes are in none.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations
from typing import Any

from glossogenesis.exceptions import StudyError
from glossogenesis.study.pretrain import DemoText, FileText, PostsText, PretrainSettings
from glossogenesis.study.section import LanguagePair, is_local
from glossogenesis.study.study import Study

Settings = dict[str, Any]


def lexicon_settings(study: Study) -> Settings:
    """How the lexicon is read, as keyword arguments of `read_lexicon`."""
    lexicon = study.lexicon
    return {
        "format": lexicon.format,
        "languages": list(study.settings.languages),
        "pos": list(lexicon.pos),
        "limit": lexicon.limit,
        "columns": dict(lexicon.columns),
    }


def endonyms(study: Study) -> dict[str, str]:
    """Each language's name in itself."""
    return {code: language.endonym for code, language in study.settings.languages.items()}


def pretrain_settings(study: Study, pretraining: str) -> Settings:
    """What a pretraining run depends on: of the languages, only those that it sees."""
    section = study.settings.pretrain[pretraining]
    shares = _shares_of(study, section)
    settings = {
        "training": _with_resolved_files(study, section),
        "shares": {
            code: {str(phase): share for phase, share in by_phase.items()}
            for code, by_phase in shares.items()
        },
    }
    if isinstance(section.text, DemoText):
        settings["lexicon"] = lexicon_settings(study)
        if study.lexicon.format == "tsv":
            # A language that is not trained on makes no difference here. In published lists it
            # does: concepts that lack a word in any language of the study are left out.
            settings["lexicon"]["languages"] = list(shares)
        settings["endonyms"] = {code: endonyms(study)[code] for code in shares}
    return settings


def _shares_of(study: Study, pretraining: PretrainSettings) -> dict[str, dict[int, float]]:
    """The mixture of languages that a pretraining sees; none where its text is in one language."""
    if isinstance(pretraining.text, PostsText):
        return {}
    written = pretraining.shares or {
        code: language.share for code, language in study.settings.languages.items()
    }
    return {code: by_phase for code, by_phase in written.items() if any(by_phase.values())}


def _with_resolved_files(study: Study, pretraining: PretrainSettings) -> Settings:
    """A pretraining section whose text files count from the working directory."""
    settings = pretraining.model_dump(mode="json", exclude={"shares"})
    if pretraining.start is None:
        del settings["start"]
    if isinstance(pretraining.text, FileText):
        settings["text"]["files"] = {
            code: {str(phase): [study.path(path) for path in paths] for phase, paths in by.items()}
            for code, by in pretraining.text.files.items()
        }
    if isinstance(pretraining.text, PostsText):
        for key in ("communities", "spellings"):
            settings["text"][key] = study.path(settings["text"][key])
    return settings


def checkpoint_settings(study: Study, model: str, checkpoint: str) -> Settings:
    """Where one checkpoint comes from."""
    row = study.checkpoint(model, checkpoint)
    settings = {
        "source": _resolved(study, row.source),
        "revision": row.revision,
        "subfolder": row.subfolder,
        "tokenizer": _resolved(study, study.settings.models[model].tokenizer),
        "step": row.step,
    }
    remote_code = study.settings.models[model].remote_code
    return settings if remote_code is None else {**settings, "remote_code": remote_code}


def _resolved(study: Study, source: str | None) -> str | None:
    """Resolve a source that is a local path from the study file's folder; leave others."""
    return study.path(source) if source is not None and is_local(source) else source


def prompts_settings(study: Study, model: str) -> Settings:
    """What a model's prompts depend on."""
    concepts = study.concepts
    return {
        "lexicon": lexicon_settings(study),
        "endonyms": endonyms(study),
        "items": concepts.items,
        "few_shot": concepts.few_shot,
        "seed": concepts.seed,
        "measured_pairs": [list(pair) for pair in concepts.measured_pairs],
        "source_pairs": _all_source_pairs(study),
        "space_variants": concepts.space_variants,
        "add_special_tokens": study.settings.models[model].add_special_tokens,
    }


def states_settings(study: Study, model: str) -> Settings:
    """What source states depend on beside the prompts and the checkpoint."""
    return {
        "dtype": study.settings.models[model].dtype,
        "on_diverged": study.concepts.on_diverged,
    }


def patching_settings(study: Study, model: str) -> Settings:
    """What patched runs depend on beside prompts, states and the checkpoint."""
    concepts = study.concepts
    return {
        "dtype": study.settings.models[model].dtype,
        "lexicon": lexicon_settings(study),
        "spaced": {code: language.spaced for code, language in study.settings.languages.items()},
        "measured_pairs": [list(pair) for pair in concepts.measured_pairs],
        "settings": list(concepts.settings),
        "source_pairs": {
            target: {setting: [list(pair) for pair in pairs] for setting, pairs in by.items()}
            for target, by in source_pairs(study).items()
        },
        "start_layers": _layers(concepts.start_layers),
        "generate_at": _layers(concepts.generate_at),
        "max_new_tokens": concepts.max_new_tokens,
        "mode": concepts.mode,
        "on_diverged": concepts.on_diverged,
    }


def table_settings(study: Study) -> Settings:
    """What the aggregated tables depend on beside the sheet and the rows of each checkpoint."""
    concepts = study.concepts
    return {
        "models": list(study.models_of("concepts")),
        "trainings": study.several_trainings(),
        "pivot": concepts.pivot,
        "unseen": [
            code for code, language in study.settings.languages.items() if not language.is_seen
        ],
        "resamples": concepts.resamples,
        "seed": concepts.seed,
    }


def figure_settings(study: Study) -> Settings:
    """What figures depend on beside the tables."""
    concepts = study.concepts
    return {
        "models": labels_of(study, study.models_of("concepts")),
        "languages": {
            code: {"group": language.group, "seen": language.is_seen}
            for code, language in study.settings.languages.items()
        },
        "pivot": concepts.pivot,
        "target_pairs": [list(pair) for pair in concepts.target_pairs],
        "start_layer": concepts.figure_start_layer,
    }


def labels_of(study: Study, models: Iterable[str]) -> dict[str, str]:
    """What figures call each of some models."""
    return {model: study.settings.models[model].label or model for model in models}


def _all_source_pairs(study: Study) -> list[list[str]]:
    """Every language pair that some setting reads source states from, and the target pairs."""
    pairs = {pair for by in source_pairs(study).values() for group in by.values() for pair in group}
    pairs |= set(study.concepts.target_pairs)
    return [list(pair) for pair in sorted(pairs, key=pair_name)]


def _layers(written: str | tuple[int, ...]) -> str | list[int]:
    return written if isinstance(written, str) else list(written)


def pair_name(pair: LanguagePair) -> str:
    """Return `es-ru` for (es, ru): the pair's name in tensors and settings."""
    return f"{pair[0]}-{pair[1]}"


def seen_pairs(study: Study, target: LanguagePair) -> list[LanguagePair]:
    """Return the source pairs of setting `seen` for a target pair, in a fixed order.

    All ordered pairs of different languages seen in pretraining, without the pivot language, the
    target's input and output, and languages related to the target's output (Körner et al. 2026).
    """
    concepts = study.concepts
    left_out = {concepts.pivot, *target, *concepts.exclude_related.get(target[1], ())}
    seen = [code for code, language in study.settings.languages.items() if language.is_seen]
    return list(permutations([code for code in seen if code not in left_out], 2))


def source_pairs(study: Study) -> dict[str, dict[str, list[LanguagePair]]]:
    """Return, for each target pair and patched setting with source prompts, their language pairs.

    `self` has none: it patches the target prompt's own states. StudyError where `seen` is empty.
    """
    concepts = study.concepts
    result: dict[str, dict[str, list[LanguagePair]]] = {}
    for target in concepts.target_pairs:
        _, output = target
        pairs: dict[str, list[LanguagePair]] = {}
        for setting in concepts.settings:
            if setting == "seen":
                pairs[setting] = _some_seen_pairs(study, target)
            elif setting == "tgt":
                pairs[setting] = [target]
            elif setting == "en_en":
                pairs[setting] = [(concepts.pivot, concepts.pivot)]
            elif setting == "copy":
                pairs[setting] = [(output, output)]
        result[pair_name(target)] = pairs
    return result


def _some_seen_pairs(study: Study, target: LanguagePair) -> list[LanguagePair]:
    pairs = seen_pairs(study, target)
    if not pairs:
        raise StudyError(
            f"{study.file}: `concepts.settings` asks for `seen`, but no two seen languages remain "
            f"beside the target pair {pair_name(target)}; give more languages a `share` above 0, "
            "drop that pair, or drop `seen`"
        )
    return pairs
