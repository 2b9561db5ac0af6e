"""What is translated under injection: the concepts study's prompts, or lines of parallel text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.concepts.prompts import LanguagePair
from glossogenesis.concepts.scoring import CLOSING_QUOTE
from glossogenesis.corpora.control_tokens import Encode
from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.errors import StudyError
from glossogenesis.patching.answer_tokens import AnswerTokens
from glossogenesis.patching.pair_scorer import AnswerWords
from glossogenesis.storage.tables import read_table
from glossogenesis.storage.text import read_text

LINE_END = "\n"


@dataclass(frozen=True)
class TranslationTask:
    """Texts to translate from one language into another."""

    pair: LanguagePair
    prompts: Sequence[Sequence[int]]
    """Token ids; the answer follows each."""
    sources: Sequence[str]
    """What is translated."""
    references: Sequence[Sequence[str]]
    """For each, its accepted translations, the usual one first."""
    ends_at: str
    """Character at which an answer ends."""
    spaced: bool
    """Whether the output language puts spaces between words."""
    of_words: bool
    """Whether single words are translated, and not sentences."""

    def answer(self, generated: Sequence[int], tokens: AnswerTokens) -> str:
        """The text of generated tokens, up to its end."""
        return tokens.text(generated).partition(self.ends_at)[0].strip()


def tasks_of(
    settings: Mapping[str, Any], prompts: Path | None, lexicon: Path | None, encode: Encode
) -> list[TranslationTask]:
    """What `settings`, those of the injection stage, ask to translate; nothing by default.

    StudyError as in `prompt_tasks` and `parallel_tasks`.
    """
    translation = settings["translation"]
    if translation is None:
        return []
    if translation["kind"] == "prompts":
        words = read_lexicon(require_file(lexicon, "lexicon"), **settings["lexicon"])
        return prompt_tasks(
            read_table(require_file(prompts, "prompts")),
            [(pair[0], pair[1]) for pair in translation["pairs"]],
            AnswerWords(words, settings["spaced"]),
        )
    return parallel_tasks(
        translation["files"],
        sentences=translation["sentences"],
        few_shot=translation["few_shot"],
        endonyms=translation["endonyms"],
        spaced=settings["spaced"],
        encode=encode,
    )


def require_file(path: Path | None, option: str) -> Path:
    """Return the path given for an option; StudyError where there is none."""
    if path is None:
        raise StudyError(f"prompts of the concepts study are to be translated; give `--{option}`")
    return path


def prompt_tasks(
    prompts: pl.DataFrame, pairs: Sequence[LanguagePair], words: AnswerWords
) -> list[TranslationTask]:
    """The target prompts of a prompt table, a task for each of the wanted pairs.

    References are all words of the lexicon for the concept. StudyError where the table lacks a
    pair.
    """
    tasks = []
    for pair in pairs:
        rows = prompts.filter(role="target", input_language=pair[0], output_language=pair[1])
        if rows.is_empty():
            raise StudyError(
                f"`features.injection.pairs` has {pair[0]}-{pair[1]}, which no prompt of the "
                "concepts study asks for; add it to `concepts.target_pairs` or `unpatched_pairs`"
            )
        concepts = rows["concept"].to_list()
        tasks.append(
            TranslationTask(
                pair=pair,
                prompts=rows["token_ids"].to_list(),
                sources=[words.of(concept, pair[0]).forms[0] for concept in concepts],
                references=[words.of(concept, pair[1]).forms for concept in concepts],
                ends_at=CLOSING_QUOTE,
                spaced=words.spaced[pair[1]],
                of_words=True,
            )
        )
    return tasks


def parallel_tasks(
    files: Mapping[str, Sequence[str]],
    *,
    sentences: int,
    few_shot: int,
    endonyms: Mapping[str, str],
    spaced: Mapping[str, bool],
    encode: Encode,
) -> list[TranslationTask]:
    """Lines of parallel files, a task for each pair.

    A prompt is `few_shot` demonstrations and a question, each of two lines, `English: <sentence>`
    and `日本語: <translation>`, divided by empty lines. The first lines of the files are the
    demonstrations, the next ones are asked.

    Args:
        files: for each pair, written `en-ja`, two files whose lines translate each other.
        sentences: lines that are asked.
        few_shot: demonstrations.
        endonyms: names of the languages in themselves.
        spaced: whether languages put spaces between words.
        encode: the tokenizer.

    Raises:
        StudyError: a file is missing, has too few lines or an empty one, the two files differ in
            length, or a language of a pair is not in the study.
    """
    return [
        _parallel_task(pair, paths, sentences, few_shot, endonyms, spaced, encode)
        for pair, paths in files.items()
    ]


def _parallel_task(
    written: str,
    paths: Sequence[str],
    sentences: int,
    few_shot: int,
    endonyms: Mapping[str, str],
    spaced: Mapping[str, bool],
    encode: Encode,
) -> TranslationTask:
    pair = _languages_of(written, endonyms)
    source, target = (_lines(path, sentences + few_shot, written) for path in paths)
    names = [endonyms[code] for code in pair]

    def question(line: str) -> str:
        return f"{names[0]}: {line}{LINE_END}{names[1]}:"

    shots = "".join(
        f"{question(line)} {translation}{LINE_END}{LINE_END}"
        for line, translation in zip(source[:few_shot], target[:few_shot], strict=True)
    )
    return TranslationTask(
        pair=pair,
        prompts=[encode(shots + question(line)) for line in source[few_shot:]],
        sources=source[few_shot:],
        references=[[line] for line in target[few_shot:]],
        ends_at=LINE_END,
        spaced=spaced[pair[1]],
        of_words=False,
    )


def _languages_of(written: str, endonyms: Mapping[str, str]) -> LanguagePair:
    codes = [
        (code, other) for code in endonyms for other in endonyms if f"{code}-{other}" == written
    ]
    if not codes:
        raise StudyError(
            f"`features.injection.translation.files` has the pair {written!r}, which is no two "
            f"languages of the study (there: {', '.join(endonyms)}); write it like `en-ja`"
        )
    return codes[0]


def _lines(path: str, wanted: int, pair: str) -> list[str]:
    """The first lines of a file."""
    key = f"`features.injection.translation.files.{pair}`"
    lines = read_text(Path(path), "parallel text", f"see {key}").splitlines()[:wanted]
    if len(lines) < wanted:
        raise StudyError(
            f"{path}: {len(lines)} lines, but `sentences` and `few_shot` ask for {wanted}; lower "
            "them, or give a longer file"
        )
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise StudyError(
                f"{path}, line {number}: empty; the lines of {key} must translate each other one "
                "by one: remove it from both files"
            )
    return [line.strip() for line in lines]
