"""Few-shot word-translation prompts, their tokens, and the position that is patched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glossogenesis.corpora.control_tokens import Encode
from glossogenesis.corpora.lexicon import Concept, Lexicon
from glossogenesis.errors import StudyError

LanguagePair = tuple[str, str]


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
