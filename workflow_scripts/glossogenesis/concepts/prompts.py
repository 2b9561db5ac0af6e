"""Few-shot word-translation prompts: their concepts, their tokens, the patched position."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import polars as pl

from glossogenesis.corpora.control_tokens import Encode
from glossogenesis.corpora.lexicon import Concept, Lexicon
from glossogenesis.exceptions import StudyError

LanguagePair = tuple[str, str]

FirstTokens = Mapping[str, Mapping[str, frozenset[int]]]
"""First answer tokens by concept and language."""

PROMPTS_SCHEMA = pl.Schema(
    {
        "role": pl.String(),
        "item": pl.Int32(),
        "concept": pl.String(),
        "input_language": pl.String(),
        "output_language": pl.String(),
        "few_shot": pl.List(pl.String()),
        "text": pl.String(),
        "token_ids": pl.List(pl.Int32()),
        "position": pl.Int32(),
        "source_concept": pl.String(),
        "answer_tokens": pl.List(pl.Int32()),
        "answer_length": pl.Int32(),
        "source_answer_tokens": pl.List(pl.Int32()),
    }
)


@dataclass(frozen=True)
class TokenisedPrompt:
    """A prompt that ends on an open quote.

    `position` is the index of the last token of the query word, where patches are read and
    written; the prompt's tokens up to it are those of the text cut before the closing quote.
    """

    text: str
    token_ids: tuple[int, ...]
    position: int


def demonstration(concept: Concept, pair: LanguagePair, endonyms: Mapping[str, str]) -> str:
    """Return one line, such as `Español: "gato" - Français: "chat"` with its line break."""
    source, target = pair
    return (
        f'{endonyms[source]}: "{concept.word(source)}" - '
        f'{endonyms[target]}: "{concept.word(target)}"\n'
    )


def query_start(
    concept: Concept, pair: LanguagePair, few_shot: Sequence[Concept], endonyms: Mapping[str, str]
) -> str:
    """Return the prompt up to the end of the query word, without its closing quote."""
    lines = "".join(demonstration(shot, pair, endonyms) for shot in few_shot)
    return f'{lines}{endonyms[pair[0]]}: "{concept.word(pair[0])}'


def query_end(pair: LanguagePair, endonyms: Mapping[str, str]) -> str:
    """Return what follows the query word: `" - Français: "`."""
    return f'" - {endonyms[pair[1]]}: "'


def tokenise_prompt(
    concept: Concept,
    pair: LanguagePair,
    few_shot: Sequence[Concept],
    endonyms: Mapping[str, str],
    encode: Encode,
) -> TokenisedPrompt:
    """Build and tokenise a prompt.

    StudyError names the prompt where the tokenizer merges the query word with its closing quote:
    the patched position would then belong to another text.
    """
    start = query_start(concept, pair, few_shot, endonyms)
    text = start + query_end(pair, endonyms)
    token_ids, cut_ids = encode(text), encode(start)
    if token_ids[: len(cut_ids)] != cut_ids:
        raise StudyError(
            f"the tokenizer merges the word {concept.word(pair[0])!r} with the quote after it "
            f"(concept {concept.name!r}, {pair[0]} to {pair[1]}, prompt {text!r}); this model "
            "cannot be patched at the word's last token: leave the concept or the language out"
        )
    return TokenisedPrompt(text, tuple(token_ids), len(cut_ids) - 1)


def require_open_end(encode: Encode) -> None:
    """StudyError where the tokenizer closes every text with a special token.

    A prompt must end on its open quote, or the model would be asked to go on after its end.
    """
    added, quote = encode(""), encode('"')
    if added and quote[-1] == added[-1]:
        raise StudyError(
            f"the tokenizer ends every text with the special token {added[-1]}, so no prompt stays "
            "open; set `add_special_tokens: false` for this model under `models`"
        )


def first_answer_tokens(
    words: Sequence[str], language: str, endonym: str, encode: Encode, *, space_variants: bool
) -> frozenset[int]:
    """Return the tokens with which an answer can begin after the open quote.

    For each word, its own first token and, with `space_variants`, that of the word after a space
    unless it is a lone space (Dumas et al. 2025). StudyError where the tokenizer merges the open
    quote with the word, so that no token of the answer comes first.
    """
    context = f'" - {endonym}: "'
    context_ids = encode(context)
    tokens: set[int] = set()
    for word in words:
        ids = encode(context + word)
        if ids[: len(context_ids)] != context_ids or len(ids) == len(context_ids):
            raise StudyError(
                f"the tokenizer merges the word {word!r} ({language}) with the quote before it in "
                f"{context + word!r}; leave the concept or the language out of the lexicon"
            )
        tokens.add(ids[len(context_ids)])
    if space_variants:
        tokens |= _tokens_after_space(words, context, context_ids, encode)
    return frozenset(tokens)


def answer_length(word: str, endonym: str, encode: Encode) -> int:
    """Return the tokens that a word takes as an answer after the open quote."""
    context = f'" - {endonym}: "'
    return len(encode(context + word)) - len(encode(context))


def _tokens_after_space(
    words: Sequence[str], context: str, context_ids: list[int], encode: Encode
) -> set[int]:
    """Return first tokens of ` word` where they are more than a space."""
    lone_space = encode(f"{context} ")[len(context_ids) :]
    tokens = set()
    for word in words:
        ids = encode(f"{context} {word}")
        first = ids[len(context_ids) : len(context_ids) + 1]
        if ids[: len(context_ids)] == context_ids and first and first[0] not in lone_space:
            tokens.add(first[0])
    return tokens


def answer_tokens(
    lexicon: Lexicon,
    languages: Sequence[str],
    endonyms: Mapping[str, str],
    encode: Encode,
    *,
    space_variants: bool,
) -> dict[str, dict[str, frozenset[int]]]:
    """Return first answer tokens of every concept in every given language."""
    return {
        concept.name: {
            language: first_answer_tokens(
                concept.words[language],
                language,
                endonyms[language],
                encode,
                space_variants=space_variants,
            )
            for language in languages
        }
        for concept in lexicon.concepts
    }


@dataclass(frozen=True)
class Item:
    """A source concept, a target concept, and the concepts of their prompts' demonstrations."""

    number: int
    source: str
    target: str
    source_few_shot: tuple[str, ...]
    target_few_shot: tuple[str, ...]


@dataclass(frozen=True)
class ItemSelection:
    """The items, and how many ordered concept pairs were usable or left out."""

    items: tuple[Item, ...]
    usable_pairs: int
    colliding_pairs: int


def select_items(
    concepts: Sequence[Concept],
    first_tokens: FirstTokens,
    *,
    items: int,
    few_shot: int,
    seed: int,
) -> ItemSelection:
    """Draw items so that source and target differ in first answer token in every language.

    Concepts are used as evenly as possible on either side. Demonstrations of a source concept
    depend on that concept alone, so that its states are computed once per language pair; source
    and target prompts of an item share no demonstration (Körner et al. 2026).
    StudyError where the lexicon has too few usable concepts.
    """
    names = [concept.name for concept in concepts]
    colliding = colliding_pairs(names, first_tokens)
    usable = len(names) * (len(names) - 1) - 2 * len(colliding)
    pairs = _draw_pairs(names, colliding, items, random.Random(f"{seed}:pairs"))
    if len(pairs) < items:
        raise StudyError(
            f"`concepts.items`: {items} concept pairs asked for, but only {len(pairs)} can be "
            f"drawn from {len(names)} concepts ({2 * len(colliding)} of "
            f"{len(names) * (len(names) - 1)} ordered pairs left out, since their answers begin "
            "with the same token); lower `concepts.items` or raise `lexicon.limit`"
        )
    demonstrations = {
        source: _draw_few_shot(concepts, {source}, few_shot, seed, f"source:{source}")
        for source in {source for source, _ in pairs}
    }
    selected = []
    for number, (source, target) in enumerate(pairs):
        taken = {source, target, *demonstrations[source]}
        key = f"target:{number}:{source}:{target}"
        selected.append(
            Item(
                number,
                source,
                target,
                demonstrations[source],
                _draw_few_shot(concepts, taken, few_shot, seed, key),
            )
        )
    return ItemSelection(tuple(selected), usable, 2 * len(colliding))


def colliding_pairs(names: Sequence[str], first_tokens: FirstTokens) -> set[frozenset[str]]:
    """Return the unordered pairs of concepts that share a first answer token in some language."""
    holders: dict[tuple[str, int], list[str]] = {}
    for name in names:
        for language, tokens in first_tokens[name].items():
            for token in tokens:
                holders.setdefault((language, token), []).append(name)
    return {frozenset(pair) for group in holders.values() for pair in combinations(group, 2)}


def _draw_pairs(
    names: Sequence[str], colliding: set[frozenset[str]], wanted: int, draw: random.Random
) -> list[tuple[str, str]]:
    """Match sources with targets round by round, each concept once a side in a round."""
    pairs: list[tuple[str, str]] = []
    drawn: set[tuple[str, str]] = set()
    while len(pairs) < wanted:
        before = len(pairs)
        sources = draw.sample(names, len(names))
        targets = draw.sample(names, len(names))
        for source in sources:
            for place, target in enumerate(targets):
                fits = source != target and frozenset((source, target)) not in colliding
                if fits and (source, target) not in drawn:
                    pairs.append((source, target))
                    drawn.add((source, target))
                    del targets[place]
                    break
            if len(pairs) == wanted:
                break
        if len(pairs) == before:
            break
    return pairs


def _draw_few_shot(
    concepts: Sequence[Concept], taken: set[str], count: int, seed: int, key: str
) -> tuple[str, ...]:
    """Draw demonstration concepts that share no word with the taken ones in any language."""
    taken_words = Counter(
        (language, word)
        for concept in concepts
        if concept.name in taken
        for language, words in concept.words.items()
        for word in words
    )
    allowed = [
        concept.name
        for concept in concepts
        if concept.name not in taken
        and not any(
            (language, word) in taken_words
            for language, words in concept.words.items()
            for word in words
        )
    ]
    if len(allowed) < count:
        raise StudyError(
            f"`concepts.few_shot`: {count} demonstrations asked for, but only {len(allowed)} "
            f"concepts are free beside {', '.join(sorted(taken))}; lower it or raise "
            "`lexicon.limit`"
        )
    return tuple(random.Random(f"{seed}:{key}").sample(allowed, count))


@dataclass(frozen=True)
class PromptTable:
    """All prompts of a model, and what was counted while they were made."""

    table: pl.DataFrame
    counts: dict[str, int]

    @property
    def summary(self) -> str:
        """One line for the log."""
        return "; ".join(
            f"{name.replace('_', ' ')}: {count}" for name, count in self.counts.items()
        )


def build_prompts(
    lexicon: Lexicon,
    encode: Encode,
    *,
    endonyms: Mapping[str, str],
    source_pairs: Sequence[LanguagePair],
    measured_pairs: Sequence[LanguagePair],
    items: int,
    few_shot: int,
    seed: int,
    space_variants: bool,
) -> PromptTable:
    """Draw items and make their source and target prompts.

    Source prompts: every source concept in every source pair. Target prompts: every item in every
    measured pair. Every prompt's
    tokens are checked; StudyError as in `require_open_end`, `tokenise_prompt`, `answer_tokens` and
    `select_items`.
    """
    require_open_end(encode)
    outputs = sorted({output for _, output in (*measured_pairs, *source_pairs)})
    first_tokens = answer_tokens(lexicon, outputs, endonyms, encode, space_variants=space_variants)
    measured_outputs = {output for _, output in measured_pairs}
    selection = select_items(
        lexicon.concepts,
        {
            name: {code: tokens for code, tokens in by.items() if code in measured_outputs}
            for name, by in first_tokens.items()
        },
        items=items,
        few_shot=few_shot,
        seed=seed,
    )
    concepts = {concept.name: concept for concept in lexicon.concepts}
    lengths = {
        (concept.name, code): answer_length(concept.word(code), endonyms[code], encode)
        for concept in lexicon.concepts
        for code in outputs
    }

    def row(concept: str, pair: LanguagePair, shots: Sequence[str], **extra: Any) -> dict[str, Any]:
        prompt = tokenise_prompt(
            concepts[concept], pair, [concepts[shot] for shot in shots], endonyms, encode
        )
        return {
            "concept": concept,
            "input_language": pair[0],
            "output_language": pair[1],
            "few_shot": list(shots),
            **asdict(prompt),
            "answer_tokens": sorted(first_tokens[concept][pair[1]]),
            "answer_length": lengths[concept, pair[1]],
            "source_answer_tokens": sorted(first_tokens[extra["source_concept"]][pair[1]]),
            **extra,
        }

    sources = {item.source: item.source_few_shot for item in selection.items}
    rows = [
        row(concept, pair, shots, role="source", item=None, source_concept=concept)
        for pair in source_pairs
        for concept, shots in sources.items()
    ]
    rows += [
        row(item.target, pair, item.target_few_shot, role="target", **_item_columns(item))
        for pair in measured_pairs
        for item in selection.items
    ]
    table = pl.DataFrame(rows, schema=PROMPTS_SCHEMA)
    return PromptTable(table, _counts(lexicon, selection, table))


def answers_too_long(prompts: pl.DataFrame, max_new_tokens: int) -> int:
    """Return how many prompts ask for a word that so many new tokens cannot spell."""
    return prompts.filter(pl.col("answer_length") > max_new_tokens).height


def _item_columns(item: Item) -> dict[str, Any]:
    return {"item": item.number, "source_concept": item.source}


def _counts(lexicon: Lexicon, selection: ItemSelection, table: pl.DataFrame) -> dict[str, int]:
    return {
        "concepts": len(lexicon.concepts),
        "concepts_left_out": lexicon.left_out,
        "items": len(selection.items),
        "usable_pairs": selection.usable_pairs,
        "colliding_pairs_left_out": selection.colliding_pairs,
        "source_prompts": table.filter(role="source").height,
        "target_prompts": table.filter(role="target").height,
    }
