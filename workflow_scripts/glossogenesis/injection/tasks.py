"""What is translated under injection, and how translations are scored.

BLEU and chrF are sacrebleu's, of the corpus. BLEU of sentences counts n-grams up to 4, of words
alone up to 1, since a word has no longer ones. Text without spaces between words is cut into
characters, other text by sacrebleu's tokenizer `13a`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from glossogenesis.concepts.prompts import LanguagePair
from glossogenesis.concepts.scoring import CLOSING_QUOTE, AnswerWords, is_correct
from glossogenesis.corpora.control_tokens import AnswerTokens, Encode
from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.exceptions import StudyError
from glossogenesis.statistics.intervals import Bootstrap, times_drawn
from glossogenesis.storage.files import read_text
from glossogenesis.storage.tables import read_table

LINE_END = "\n"

Floats = NDArray[np.float64]

Comet = Callable[[Sequence[str], Sequence[str], Sequence[str]], list[float]]
"""Sources, answers and references to a score of each answer."""


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


@dataclass(frozen=True)
class Score:
    """One metric of a set of answers."""

    value: float
    resampled: Floats
    """The same of every resample of the sentences, `[resample]`; NaN of a single sentence."""
    sentences: int


class TranslationScorer:
    """Scores answers to one task; equal answers are scored once.

    Attributes:
        signatures: how sacrebleu describes each metric; filled when something is scored.
    """

    def __init__(self, task: TranslationTask, bootstrap: Bootstrap, comet: Comet | None) -> None:
        """Draw the resamples; `comet` is None where it is not asked for."""
        self._task = task
        self._comet = comet
        # sacrebleu takes None where a sentence has no further reference, which its types leave out.
        self._streams: Any = _reference_streams(task.references)
        self._draws = times_drawn(len(task.prompts), bootstrap)
        self._known: dict[tuple[str, ...], dict[str, Score]] = {}
        self.signatures: dict[str, str] = {}

    def scores(self, answers: Sequence[str]) -> dict[str, Score]:
        """Scores by metric: `bleu` and `chrf` (0 to 100), `exact` (share) of words, `comet`."""
        key = tuple(answers)
        if key not in self._known:
            self._known[key] = self._scored(answers)
        return self._known[key]

    def _scored(self, answers: Sequence[str]) -> dict[str, Score]:
        max_ngram_order = 1 if self._task.of_words else 4
        metrics: dict[str, Metric] = {
            "bleu": BLEU(
                tokenize="13a" if self._task.spaced else "char",
                max_ngram_order=max_ngram_order,
                effective_order=True,
            ),
            "chrf": CHRF(),
        }
        scores = {name: self._of_corpus(metric, answers) for name, metric in metrics.items()}
        self.signatures |= {name: str(metric.get_signature()) for name, metric in metrics.items()}
        # sacrebleu's own signature leaves this out.
        self.signatures["bleu"] += f"|ngrams:{max_ngram_order}"
        if self._task.of_words:
            scores["exact"] = self._mean(
                [
                    is_correct(answer, accepted, self._task.spaced)
                    for answer, accepted in zip(answers, self._task.references, strict=True)
                ]
            )
        if self._comet is not None:
            usual = [references[0] for references in self._task.references]
            scores["comet"] = self._mean(self._comet(self._task.sources, answers, usual))
        return scores

    def _of_corpus(self, metric: Metric, answers: Sequence[str]) -> Score:
        value = metric.corpus_score(list(answers), self._streams).score
        # sacrebleu's own significance tests resample these sums in the same way; it offers no
        # public name for them.
        sums = np.array(metric._extract_corpus_statistics(list(answers), self._streams))
        resampled = [
            metric._compute_score_from_stats(total.tolist()).score for total in self._draws @ sums
        ]
        return self._score(value, np.array(resampled, dtype=np.float64))

    def _mean(self, values: Sequence[float]) -> Score:
        numbers = np.asarray(values, dtype=np.float64)
        return self._score(numbers.mean(), self._draws @ numbers / len(numbers))

    def _score(self, value: float, resampled: Floats) -> Score:
        """A score, whose resamples are NaN where there is a single sentence."""
        sentences = len(self._task.prompts)
        drawn = np.full_like(resampled, np.nan) if sentences < 2 else resampled
        return Score(float(value), drawn, sentences)


def _reference_streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """First references of all sentences, then second ones, and so on; None where there is none."""
    most = max(len(accepted) for accepted in references)
    return [
        [accepted[rank] if rank < len(accepted) else None for accepted in references]
        for rank in range(most)
    ]


def load_comet(name: str, *, batch_size: int, gpu: bool) -> Comet:
    """Load a COMET model: the path of a checkpoint, or a name that is downloaded.

    StudyError where the package is not installed.
    """
    try:
        comet: Any = import_module("comet")
    except ImportError:
        raise StudyError(
            f"`features.injection.comet` asks for {name!r}, but COMET is not installed; run "
            "`pip install 'glossogenesis[comet]'`, or remove the key"
        ) from None
    # COMET's checkpoints are pickles: let torch take weights and plain values from them alone.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    path = name if Path(name).is_file() else comet.download_model(name)
    try:
        model = comet.load_from_checkpoint(path)
    except Exception as error:  # of whatever library COMET loads it with
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StudyError(
            f"{path}: no COMET model of weights alone ({first_line}); name another under "
            "`features.injection.comet`"
        ) from None

    def scores(
        sources: Sequence[str], answers: Sequence[str], references: Sequence[str]
    ) -> list[float]:
        rows = [
            {"src": source, "mt": answer, "ref": reference}
            for source, answer, reference in zip(sources, answers, references, strict=True)
        ]
        predicted = model.predict(
            rows, batch_size=batch_size, gpus=int(gpu), progress_bar=False
        ).scores
        return [float(score) for score in predicted]

    return scores
