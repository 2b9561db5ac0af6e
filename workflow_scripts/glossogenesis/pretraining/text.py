"""From a study's text to a tokenizer and to batches of token ids, phase by phase."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from glossogenesis.corpora.control_tokens import text_tokenizer
from glossogenesis.corpora.demo.posts import read_world, write_post
from glossogenesis.corpora.demo.world import PhaseMixture, check_mixture, demo_documents
from glossogenesis.corpora.documents import Document, read_documents
from glossogenesis.corpora.lexicon import Concept
from glossogenesis.exceptions import StudyError
from glossogenesis.study.pretrain import DemoText, FileText, PostsText, PretrainSettings, context_at

TextSource = Callable[[int, random.Random], Iterator[Document]]
"""Given a phase and a random state, yields that phase's documents without end."""

Shares = Mapping[str, Mapping[int, float]]
"""Share of the text by language and phase."""

DOCUMENTS_AT_ONCE = 1000

END_OF_DOCUMENT = "<|endoftext|>"

_OWN_SCRIPT = r"\p{Han}\p{Hiragana}\p{Katakana}ー"

PIECES = "|".join(
    (
        r"\p{N}",
        r" ?\p{Han}+",
        r" ?\p{Hiragana}+",
        r" ?[\p{Katakana}ー]+",
        rf" ?[[\p{{L}}\p{{M}}]&&[^{_OWN_SCRIPT}]]+",
        r"\n",
        r"[^\p{L}\p{M}\p{N}\n]+(?= )",
        r"[^\p{L}\p{M}\p{N}\n]+",
    )
)
"""Pieces within which bytes may merge: a digit, a run of letters with a space before it, a line
break, or a run of anything else, which leaves its last space to the piece after it.

A quote is never in a token with letters, so a word has the same tokens between quotes whatever
stands around them. Han, Hiragana and Katakana end each other's runs, as Japanese has no spaces.
"""


def demo_source(
    text: DemoText,
    concepts: Sequence[Concept],
    endonyms: Mapping[str, str],
    shares: Shares,
) -> TextSource:
    """Return the demo world as a source; StudyError where a phase cannot be written."""
    mixtures = {}
    for number, phase in text.phases.items():
        of_phase = {language: by_phase.get(number, 0.0) for language, by_phase in shares.items()}
        present = tuple(language for language, share in of_phase.items() if share > 0)
        copying = tuple(
            language
            for language in present
            if phase.copying_languages == "all" or language == text.pivot
        )
        mixtures[number] = PhaseMixture(
            shares=of_phase,
            pivot=text.pivot,
            pivot_only=phase.pairs == "pivot",
            monolingual=phase.monolingual,
            glossary=phase.glossary,
            copying=phase.copying,
            copying_languages=copying,
            lines=text.lines,
            synonyms=text.synonyms,
        )
        check_mixture(mixtures[number], concepts, number)
    return lambda phase, rng: demo_documents(mixtures[phase], concepts, endonyms, rng)


def file_source(text: FileText, shares: Shares, phases: Sequence[int]) -> TextSource:
    """Return the user's files as a source that mixes languages by their shares.

    A language's documents come in random order, and again in another when all were used.
    StudyError where a file is bad, a language has a share but no text in a phase, or a phase has
    no text at all.
    """
    held: dict[int, dict[str, list[Document]]] = {}
    for phase in phases:
        held[phase] = {}
        for language, by_phase in shares.items():
            if by_phase.get(phase, 0.0) <= 0:
                continue
            paths = text.files.get(language, {}).get(phase, ())
            if not paths:
                raise StudyError(
                    f"language {language!r} has share {by_phase[phase]} in phase {phase} but no "
                    f"text; add `text.files.{language}.{phase}` or set its share to 0"
                )
            held[phase][language] = [
                document for path in paths for document in read_documents(path, language)
            ]
        if not held[phase]:
            raise StudyError(
                f"phase {phase} has no text: no language has a share in it; set "
                f"`languages.<code>.share` for phase {phase}"
            )

    def documents(phase: int, rng: random.Random) -> Iterator[Document]:
        languages = list(held[phase])
        weights = [shares[language][phase] for language in languages]
        endless = {language: _endless(held[phase][language], rng) for language in languages}
        while True:
            yield next(endless[rng.choices(languages, weights)[0]])

    return documents


def _endless(documents: Sequence[Document], rng: random.Random) -> Iterator[Document]:
    order = list(documents)
    while True:
        rng.shuffle(order)
        yield from order


def posts_source(text: PostsText) -> TextSource:
    """Return posts of the demo world, each of a random community, as a source.

    A document is a post's title, a line break and its body; phases do not differ. StudyError where
    a table is bad.
    """
    world = read_world(Path(text.communities), Path(text.spellings))
    communities = list(world.communities)

    def documents(phase: int, rng: random.Random) -> Iterator[Document]:
        while True:
            post = write_post(world, rng.choice(communities), rng)
            yield Document(f"{post.title}\n{post.body}", (text.language,))

    return documents


def tokenizer_from_text(source: TextSource, settings: PretrainSettings) -> PreTrainedTokenizerFast:
    """Train the tokenizer on documents of all phases in turn, up to `tokenizer_characters`."""
    return train_tokenizer(
        _texts_of_all_phases(source, settings),
        vocabulary=settings.model.vocabulary,
        positions=settings.model.positions,
    )


def _texts_of_all_phases(source: TextSource, settings: PretrainSettings) -> Iterator[str]:
    streams = [
        source(phase, random.Random(f"{settings.seed} tokenizer {phase}"))
        for phase in sorted(settings.steps)
    ]
    characters = 0
    while True:
        for stream in streams:
            text = next(stream).text
            yield text
            characters += len(text)
            if characters >= settings.tokenizer_characters:
                return


def token_batches(
    source: TextSource,
    tokenizer: PreTrainedTokenizerFast,
    settings: PretrainSettings,
    first_step: int,
) -> Iterator[Tensor]:
    """Yield the token ids of each step from `first_step` (counted from 1) to the last.

    Each is int64 [sequence, position] of `tokens_per_step` ids: documents one after the other, with
    the tokens that the tokenizer adds of its own (such as one at the beginning) and an
    end-of-document token after each, cut into sequences regardless of where documents end. A step's
    ids do not depend on `first_step`.
    """
    step = 0
    for phase in sorted(settings.steps):
        rng = random.Random(f"{settings.seed} text {phase}")
        ids = _token_ids(source(phase, rng), tokenizer)
        for _ in range(settings.steps[phase]):
            step += 1
            of_step = list(islice(ids, settings.tokens_per_step))
            if step >= first_step:
                yield torch.tensor(of_step).view(-1, context_at(settings, step))


def _token_ids(documents: Iterator[Document], tokenizer: PreTrainedTokenizerFast) -> Iterator[int]:
    end = tokenizer.eos_token_id
    assert isinstance(end, int)
    backend = text_tokenizer(tokenizer)
    while True:
        texts = [document.text for document in islice(documents, DOCUMENTS_AT_ONCE)]
        for encoding in backend.encode_batch(texts, add_special_tokens=True):
            yield from encoding.ids
            if encoding.ids[-1:] != [end]:
                yield end


def train_tokenizer(
    texts: Iterable[str], *, vocabulary: int, positions: int
) -> PreTrainedTokenizerFast:
    """Train a tokenizer of `vocabulary` tokens, of which 256 are bytes and one ends documents.

    It adds no token of its own to a text. `positions` is the longest text that it declares.
    StudyError where the text is too little to find so many tokens.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    found = tokenizer.get_vocab_size()
    if found < vocabulary:
        raise StudyError(
            f"the text yields {found} tokens, and `model.vocabulary` asks for {vocabulary}; lower "
            "it to at most that, or give more text"
        )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers annotates no arguments
        tokenizer_object=tokenizer,
        eos_token=END_OF_DOCUMENT,
        pad_token=END_OF_DOCUMENT,
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )
