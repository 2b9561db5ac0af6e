"""From a study's text to a tokenizer and to batches of token ids, phase by phase."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from glossogenesis.corpora.control_tokens import text_tokenizer
from glossogenesis.corpora.demo.posts import read_world, write_post
from glossogenesis.corpora.demo.world import PhaseMixture, check_mixture, demo_documents
from glossogenesis.corpora.lexicon import Concept
from glossogenesis.corpora.text import Document, read_documents
from glossogenesis.errors import StudyError
from glossogenesis.models.tokenizer_training import train_tokenizer
from glossogenesis.models.training_schedule import context_at
from glossogenesis.study.pretrain import DemoText, FileText, PostsText, PretrainSettings

TextSource = Callable[[int, random.Random], Iterator[Document]]
"""Given a phase and a random state, yields that phase's documents without end."""

Shares = Mapping[str, Mapping[int, float]]
"""Share of the text by language and phase."""

DOCUMENTS_AT_ONCE = 1000


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
