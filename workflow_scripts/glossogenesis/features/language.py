"""The language of activating tokens, and from them that of features (after Inaba et al. 2025).

Only examples whose activating token has letters say of which language a feature is: a feature of
`:` alone would otherwise be of whatever language stands before colons, and of several if that
varies. A feature is a `symbol` if more than a share of its examples has no letters; of a language
if more than a share of the others is in it; `bilingual` if two languages have a minimum share each,
on two or more different tokens; and `mixed` otherwise. All examples with letters count in the
denominator, also those in no language, such as letters of another script. A share equal to the
setting is not enough for a language, and the setting is at least a half, so no two languages can
both have a feature.

The rule `paper` is the published one in full, by which every token says something, `:` too.

A token may be a part of a character's bytes. It has letters where a character that it is a part of
is one, so that what stands beside it decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glossogenesis.corpora.token_languages import has_letter
from glossogenesis.corpora.tokenised import NO_LANGUAGE, TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.features.examples import Examples
from glossogenesis.features.schemas import NOT_LANGUAGES
from glossogenesis.models.activation_order import SPLIT
from glossogenesis.study.features import LanguageBy

_PUBLISHED_LATIN = re.compile(r"[a-zA-Z\s\"'(),.\-]+")
_DIGITS = -1
_CONTEXTS_AT_ONCE = 256

_TOKENS_AROUND = 3
"""Tokens on either side that can hold the rest of a character, which has at most 4 bytes."""
_CONTINUATION = range(0x80, 0xC0)
"""Bytes of UTF-8 that begin no character."""


def check_languages_are_distinct(
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
    fix = "set `features.language.by: document`"
    shared = [code for code in corpus.languages if code not in corpus.known_by_script]
    if by == "script" and shared:
        raise StudyError(
            f"corpus {corpus.corpus!r}: the script of {', '.join(shared)} is shared by several of "
            f"its languages, so that `by: script` cannot tell them apart; {fix}"
        )
    if by == "paper":
        latin = [code for code in corpus.languages if scripts.get(code) == "Latin"]
        if len(corpus.languages) != 2 or len(latin) != 1:
            raise StudyError(
                f"corpus {corpus.corpus!r}: `by: paper` takes two languages, one of them written "
                f"in Latin letters, and the corpus has {', '.join(corpus.languages)}; {fix}"
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


@dataclass(frozen=True)
class LanguageShares:
    """What the examples of each feature say of its language; every share is NaN without any."""

    by_language: NDArray[np.float64]
    """Share of its deciding examples in each language [feature, language]."""
    symbols: NDArray[np.float64]
    """Share of all its examples that do not decide [feature]."""
    token_types: NDArray[np.int64]
    """Different tokens with letters among its examples in each language, and in the languages with
    at least as large a share [feature, language]."""


def language_shares(
    examples: Examples,
    languages: NDArray[np.uint8],
    with_letters: NDArray[np.bool_],
    n_languages: int,
    *,
    by: LanguageBy,
) -> LanguageShares:
    """Count the examples of every feature by language.

    Args:
        examples: the examples.
        languages: language of each activating token, 255 for none [example].
        with_letters: whether it has letters [example].
        n_languages: of the corpus.
        by: the rule; by `paper`, examples without letters decide too.
    """
    n_features = len(examples.counts)
    deciding = with_letters | (by == "paper")
    decided = np.bincount(examples.features[deciding], minlength=n_features)
    known = deciding & (languages != NO_LANGUAGE)
    pairs = examples.features[known] * n_languages + languages[known]
    counted = np.bincount(pairs, minlength=n_features * n_languages).reshape(-1, n_languages)
    with np.errstate(invalid="ignore"):
        return LanguageShares(
            by_language=counted / decided[:, None],
            symbols=1 - decided / examples.counts,
            token_types=_token_types(examples, languages, known & with_letters, counted),
        )


def _token_types(
    examples: Examples,
    languages: NDArray[np.uint8],
    chosen: NDArray[np.bool_],
    counted: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Different tokens in each language or a more frequent one [feature, language].

    A token that two languages share, such as a name, counts once.
    """
    features, tongues = examples.features[chosen], languages[chosen]
    token_ids = examples.token_column("token_id")[chosen].astype(np.int64)
    types = np.zeros(counted.shape, np.int64)
    for language in range(counted.shape[1]):
        among = counted[features, tongues] >= counted[features, language]
        found = np.unique(features[among] << 32 | token_ids[among])
        types[:, language] = np.bincount(found >> 32, minlength=len(counted))
    return types


def label_names(languages: Sequence[str]) -> tuple[str, ...]:
    """Names of the labels that `label_features` numbers: languages, then `NOT_LANGUAGES`."""
    return (*languages, *NOT_LANGUAGES)


def label_features(
    shares: LanguageShares,
    firings: NDArray[np.int64],
    *,
    share: float,
    bilingual_share: float,
    symbol_share: float,
) -> NDArray[np.int64]:
    """Label every feature.

    Args:
        shares: what its examples say; NaN where it has too few, which leaves it unlabelled.
        firings: tokens on which it fired [feature]; dead where on none.
        share: it is of the language whose share is above this.
        bilingual_share: bilingual where two languages have at least this.
        symbol_share: a symbol where more of its examples do not decide.

    Returns:
        Numbers of `label_names`, int64 [feature].
    """
    n_languages = shares.by_language.shape[1]
    names = label_names([""] * n_languages)
    bilingual, mixed, symbol, unlabelled, dead = (names.index(name) for name in NOT_LANGUAGES)
    of_language = shares.by_language > share
    order = np.argsort(-shares.by_language, axis=1, kind="stable")
    labels = np.full(len(firings), mixed)
    if n_languages > 1:
        second = np.arange(len(firings)), order[:, 1]
        several = shares.by_language[second] >= bilingual_share
        labels[several & (shares.token_types[second] > 1)] = bilingual
    labels = np.where(of_language.any(axis=1), of_language.argmax(axis=1), labels)
    labels[shares.symbols > symbol_share] = symbol
    labels[np.isnan(shares.symbols)] = unlabelled
    labels[firings == 0] = dead
    return labels


def lettered(examples: Examples, corpus: TokenisedCorpus) -> NDArray[np.bool_]:
    """Whether each example's activating token has a letter of any script, [example]."""
    pieces = corpus.token_bytes()
    token_ids = examples.token_column("token_id")
    has_letters = np.zeros(len(pieces), bool)
    is_cut = np.zeros(len(pieces), bool)
    for token in np.unique(token_ids).tolist():
        has_letters[token] = has_letter(pieces[token].decode("utf-8", errors="ignore"))
        is_cut[token] = not has_letters[token] and not _is_whole(pieces[token])
    found: NDArray[np.bool_] = has_letters[token_ids]
    unsure = np.flatnonzero(is_cut[token_ids])
    if len(unsure):
        places = (examples.token_column(name)[unsure] for name in ("context", "column"))
        found[unsure] = _by_surroundings(corpus, pieces, *places)
    return found


def _by_surroundings(
    corpus: TokenisedCorpus,
    pieces: Sequence[bytes],
    contexts: NDArray[np.int32],
    columns: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Whether characters that tokens of the held-out split are parts of are letters, [token]."""
    found = np.zeros(len(contexts), bool)
    order = np.argsort(contexts, kind="stable")
    ordered = contexts[order]
    for block in corpus.blocks(SPLIT, _CONTEXTS_AT_ONCE):
        ids = block.token_ids.numpy()
        ends = np.searchsorted(ordered, (block.first, block.first + len(ids)))
        for example in order[slice(*ends)].tolist():
            row, column = ids[contexts[example] - block.first], int(columns[example])
            first = max(0, column - _TOKENS_AROUND)
            around = [pieces[token] for token in row[first : column + _TOKENS_AROUND + 1].tolist()]
            found[example] = has_letter(_whole_characters(around, column - first))
    return found


def _whole_characters(around: Sequence[bytes], place: int) -> str:
    """The characters that the token at `place` is, or is a part of."""
    text = b"".join(around)
    start = sum(map(len, around[:place]))
    end = start + len(around[place])
    while start and text[start] in _CONTINUATION:
        start -= 1
    while end < len(text) and text[end] in _CONTINUATION:
        end += 1
    return text[start:end].decode("utf-8", errors="ignore")


def _is_whole(piece: bytes) -> bool:
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
