"""The language of activating tokens, and from them that of features (Inaba et al. 2025).

A feature belongs to a language if more than a share of its examples have their activating token in
that language, and is `mixed` otherwise. All examples count in the denominator, also those whose
token is in no language, such as letters of another script. A share equal to the setting is not
enough, and the setting is at least a half, so no two languages can both have a feature.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from glossogenesis.config.features import LanguageBy
from glossogenesis.corpora.tokenised import NO_LANGUAGE, TokenisedCorpus
from glossogenesis.errors import StudyError
from glossogenesis.features.examples import Examples
from glossogenesis.features.firing import SPLIT
from glossogenesis.features.schemas import NOT_LANGUAGES

_PUBLISHED_LATIN = re.compile(r"[a-zA-Z\s\"'(),.\-]+")
_DIGITS = -1
_CONTEXTS_AT_ONCE = 256


def check_languages_can_be_told(
    by: LanguageBy, corpus: TokenisedCorpus, scripts: Mapping[str, str]
) -> None:
    """Refuse a rule that cannot tell the languages of a corpus apart.

    Args:
        by: the rule.
        corpus: the corpus.
        scripts: script of each language.

    Raises:
        StudyError: by script, where a language shares its script with another; as in the paper,
            where there are not two languages of which one is written in Latin letters.
    """
    mend = "set `features.language.by: document`"
    shared = [code for code in corpus.languages if code not in corpus.told_by_script]
    if by == "script" and shared:
        raise StudyError(
            f"corpus {corpus.corpus!r}: the script of {', '.join(shared)} is shared by several of "
            f"its languages, so that `by: script` cannot tell them apart; {mend}"
        )
    if by == "paper":
        latin = [code for code in corpus.languages if scripts.get(code) == "Latin"]
        if len(corpus.languages) != 2 or len(latin) != 1:
            raise StudyError(
                f"corpus {corpus.corpus!r}: `by: paper` takes two languages, one of them written "
                f"in Latin letters, and the corpus has {', '.join(corpus.languages)}; {mend}"
            )


def token_languages(
    by: LanguageBy, examples: Examples, corpus: TokenisedCorpus, scripts: Mapping[str, str]
) -> NDArray[np.uint8]:
    """Language of each example's activating token: index in the corpus' languages, 255 for none."""
    if by == "script":
        return examples.token_column("token_language")
    if by == "document":
        return examples.token_column("language")
    places = (examples.token_column(name) for name in ("context", "column"))
    return _as_published(corpus, scripts, *places)


def published_class(text: str, latin: int, other: int) -> int:
    """Class of a token as in the published code: an index of a language, or -1 for digits.

    Latin letters, spaces and `"'(),.-` are of the Latin language, digits as the token before them,
    and everything else, an empty token too, is of the other language.
    """
    stripped = text.strip()
    if _PUBLISHED_LATIN.fullmatch(stripped):
        return latin
    return _DIGITS if stripped.isdecimal() else other


def _as_published(
    corpus: TokenisedCorpus,
    scripts: Mapping[str, str],
    contexts: NDArray[np.int32],
    columns: NDArray[np.int32],
) -> NDArray[np.uint8]:
    """Languages by the published rule, at places of the held-out split.

    Digits take the language of the last token before them in the sequence that is no digits; they
    have none at its start, where the published code looks at the end of the sequence instead.
    """
    latin, other = _latin_and_other(corpus.languages, scripts)
    classes = np.array([published_class(text, latin, other) for text in corpus.vocabulary()])
    found = np.full(len(contexts), NO_LANGUAGE, np.uint8)
    order = np.argsort(contexts, kind="stable")
    ordered = contexts[order]
    for block in corpus.blocks(SPLIT, _CONTEXTS_AT_ONCE):
        of_token = classes[block.token_ids.numpy()]
        places = np.where(of_token != _DIGITS, np.arange(of_token.shape[1]), -1)
        before = np.maximum.accumulate(places, axis=1)
        taken = np.take_along_axis(of_token, before.clip(0), axis=1)
        languages = np.where(before < 0, NO_LANGUAGE, taken).astype(np.uint8)
        ends = np.searchsorted(ordered, (block.first, block.first + len(of_token)))
        here = order[slice(*ends)]
        found[here] = languages[contexts[here] - block.first, columns[here]]
    return found


def _latin_and_other(languages: Sequence[str], scripts: Mapping[str, str]) -> tuple[int, int]:
    latin = next(index for index, code in enumerate(languages) if scripts.get(code) == "Latin")
    return latin, 1 - latin


def language_shares(
    examples: Examples, languages: NDArray[np.uint8], n_languages: int
) -> NDArray[np.float64]:
    """Share of each feature's examples in each language, [feature, language]; NaN without any."""
    told = languages != NO_LANGUAGE
    pairs = examples.features[told] * n_languages + languages[told]
    counted = np.bincount(pairs, minlength=len(examples.counts) * n_languages)
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = counted.reshape(-1, n_languages) / examples.counts[:, None]
    return shares


def label_names(languages: Sequence[str]) -> tuple[str, ...]:
    """Names of the labels that `label_features` numbers: languages, mixed, unlabelled, dead."""
    return (*languages, *NOT_LANGUAGES)


def label_features(
    shares: NDArray[np.float64],
    examples: NDArray[np.int64],
    firings: NDArray[np.int64],
    *,
    share: float,
    minimum_examples: int,
) -> NDArray[np.int64]:
    """Label every feature.

    Args:
        shares: share of its examples in each language [feature, language].
        examples: how many it has [feature].
        firings: tokens on which it fired [feature].
        share: it is of the language whose share is above this, else mixed.
        minimum_examples: it is unlabelled with fewer; dead where it never fired.

    Returns:
        Numbers of `label_names`, int64 [feature].
    """
    n_languages = shares.shape[1]
    mixed, unlabelled, dead = range(n_languages, n_languages + len(NOT_LANGUAGES))
    of_language = shares > share
    labels = np.where(of_language.any(axis=1), of_language.argmax(axis=1), mixed)
    labels[examples < minimum_examples] = unlabelled
    labels[firings == 0] = dead
    return labels
