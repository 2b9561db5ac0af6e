"""Which language pairs each patched setting takes its source prompts from."""

from __future__ import annotations

from itertools import permutations

from glossogenesis.errors import StudyError
from glossogenesis.study.section import LanguagePair
from glossogenesis.study.study import Study


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
