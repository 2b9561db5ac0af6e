"""Cross-lingual patching of word translation (CLAP): from prompts and states to scored answers.

For each target language pair, the source concept's states overwrite those of the query word in the
target concept's prompt; the answer shows which concept and which language the model then speaks of
(Dumas et al. 2025, arXiv:2411.08745; Körner et al. 2026, arXiv:2601.22851).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

from glossogenesis.corpora.lexicon import Lexicon
from glossogenesis.errors import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.patching.engine import PatchedRun, PatchPrompt, PatchRequest, pad_token_ids
from glossogenesis.patching.identities import check_identities
from glossogenesis.patching.run import Mode, run_patching
from glossogenesis.patching.scoring import Words, answer_of, classify_outcome
from glossogenesis.patching.states import SourceStates
from glossogenesis.patching.tables import PATCHING_SCHEMA
from glossogenesis.progress import progress

LanguagePair = tuple[str, str]
Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class AnswerWords:
    """The lexicon as scoring needs it."""

    lexicon: Lexicon
    spaced: Mapping[str, bool]
    """Whether spaces delimit a language's words."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {c.name: c for c in self.lexicon.concepts})

    def of(self, concept: str, language: str, *, main_only: bool = False) -> Words:
        """A concept's accepted words in a language, or its usual word alone."""
        words = self._by_name[concept].words[language]  # type: ignore[attr-defined]  # set above
        return Words(words[:1] if main_only else words, self.spaced[language])

    def copyable(self, concept: str, pair: LanguagePair) -> bool:
        """Whether the concept's usual word is the same string in both languages."""
        return self.of(concept, pair[0]).forms[0] == self.of(concept, pair[1]).forms[0]


@dataclass(frozen=True)
class PatchingPlan:
    """What is patched and generated for every target pair."""

    settings: tuple[str, ...]
    source_pairs: Mapping[str, Mapping[str, Sequence[Sequence[str]]]]
    """Target pair (`es-en`) to setting to the language pairs that its patch is the mean of."""
    start_layers: tuple[int, ...]
    generate_at: tuple[int, ...]
    max_new_tokens: int
    stop_ids: frozenset[int]
    mode: Mode
    batch_size: int


def layers_of(written: str | Sequence[int], n_layers: int, key: str) -> tuple[int, ...]:
    """Return the start layers that a study asks for; StudyError where one is beyond the last."""
    if isinstance(written, str):
        return tuple(range(n_layers))
    beyond = [layer for layer in written if layer >= n_layers]
    if beyond:
        raise StudyError(
            f"`concepts.{key}`: layer {beyond[0]} is beyond the model's last, {n_layers - 1}; "
            "layers are counted from 0"
        )
    return tuple(sorted(set(written)))


def quote_tokens(vocabulary_size: int, decode: Decode) -> frozenset[int]:
    """Return the tokens whose text contains a double quote: an answer ends with one."""
    return frozenset(token for token in range(vocabulary_size) if '"' in decode([token]))


def patch_translations(
    anatomy: Anatomy,
    prompts: pl.DataFrame,
    states: SourceStates,
    words: AnswerWords,
    decode: Decode,
    plan: PatchingPlan,
) -> pl.DataFrame:
    """Run and score every setting of every measured pair of a prompt table.

    Pairs without patched settings are measured unpatched. Returns rows of `PATCHING_SCHEMA`, in the
    order of the prompt table's pairs. Raises RuntimeError where an identity that must hold on any
    model fails (see `check_identities`).
    """
    decoded: dict[tuple[int, ...], str] = {}

    def answer(tokens: Sequence[int]) -> str:
        key = tuple(token for token in tokens if token >= 0)
        if key not in decoded:
            decoded[key] = answer_of(decode(key))
        return decoded[key]

    targets = prompts.filter(pl.col("role") == "target")
    groups = targets.partition_by(["input_language", "output_language"], maintain_order=True)
    frames = []
    with progress(total=2 * targets.height, label="patched prompts", unit="prompt") as bar:
        for group in groups:
            pair = (group["input_language"][0], group["output_language"][0])
            sources = _source_rows(prompts, pair, group)
            scorer = _PairScorer(pair, group, words, answer, plan)
            frames.append(_unpatched_sources(anatomy, sources, plan, scorer, bar.update))
            frames.extend(_targets(anatomy, group, sources, states, plan, scorer, bar.update))
    return pl.concat(frames)


def _source_rows(prompts: pl.DataFrame, pair: LanguagePair, group: pl.DataFrame) -> pl.DataFrame:
    """The source prompts of a pair, one for each item of the pair's target prompts, in its order."""
    sources = prompts.filter(
        (pl.col("role") == "source")
        & (pl.col("input_language") == pair[0])
        & (pl.col("output_language") == pair[1])
    ).drop("item", "source_concept")
    return group.select("item", concept="source_concept").join(
        sources, on="concept", how="left", maintain_order="left"
    )


def _request(
    rows: pl.DataFrame, patches: Tensor, interest: Tensor, plan: PatchingPlan, **layers: Any
) -> PatchRequest:
    """A request for some prompts, with the plan's layers unless others are given."""
    prompts = tuple(
        PatchPrompt(tuple(ids), position)
        for ids, position in zip(rows["token_ids"].to_list(), rows["position"], strict=True)
    )
    return PatchRequest(
        prompts=prompts,
        patches=patches,
        token_ids_of_interest=interest,
        max_new_tokens=plan.max_new_tokens,
        stop_ids=plan.stop_ids,
        **{"start_layers": plan.start_layers, "generate_at": plan.generate_at, **layers},
    )


def _unpatched_request(
    anatomy: Anatomy, rows: pl.DataFrame, interest: Tensor, plan: PatchingPlan
) -> PatchRequest:
    """A request for prompts that are not patched: their own states, at the last layer only."""
    nothing = torch.empty(0, rows.height, anatomy.n_layers, anatomy.d_model, dtype=anatomy.dtype)
    last = (anatomy.n_layers - 1,)
    return _request(
        rows, nothing, interest, plan, start_layers=last, generate_at=last, include_self=True
    )


def _unpatched_sources(
    anatomy: Anatomy,
    sources: pl.DataFrame,
    plan: PatchingPlan,
    scorer: _PairScorer,
    on_batch: Callable[[int], object],
) -> pl.DataFrame:
    """Rows of `src_unpatched`: the source concept's own prompts in the target pair."""
    interest = pad_token_ids(sources["answer_tokens"].to_list())
    request = _unpatched_request(anatomy, sources, interest, plan)
    run = run_patching(
        anatomy, request, mode=plan.mode, batch_size=plan.batch_size, on_batch=on_batch
    )
    check_identities(run, request, anatomy, "src_unpatched")
    log_p = run.unpatched_log_probabilities.logsumexp(dim=1)
    return scorer.rows(
        "src_unpatched",
        None,
        run.unpatched_generated,
        expects_source=True,
        log_p_source=log_p,
        log_p_target=None,
    )


def _targets(
    anatomy: Anatomy,
    group: pl.DataFrame,
    sources: pl.DataFrame,
    states: SourceStates,
    plan: PatchingPlan,
    scorer: _PairScorer,
    on_batch: Callable[[int], object],
) -> list[pl.DataFrame]:
    """Rows of `tgt_unpatched` and of every patched setting of one target pair."""
    source_tokens = pad_token_ids(sources["answer_tokens"].to_list())
    target_tokens = pad_token_ids(group["answer_tokens"].to_list())
    interest = torch.cat([source_tokens, target_tokens], dim=1)
    split = source_tokens.shape[1]
    pairs_of = plan.source_pairs.get("-".join(scorer.pair))
    if pairs_of is None:
        request = _unpatched_request(anatomy, group, interest, plan)
    else:
        source_concepts = group["source_concept"].to_list()
        patches = [states.mean_patch(pairs, source_concepts) for pairs in pairs_of.values()]
        # The identities are checked on every run, so the prompt's own states are always included.
        shape = (0, group.height, anatomy.n_layers, anatomy.d_model)
        stacked = torch.stack(patches) if patches else torch.empty(shape, dtype=anatomy.dtype)
        request = _request(group, stacked, interest, plan, include_self=True)
    run = run_patching(
        anatomy, request, mode=plan.mode, batch_size=plan.batch_size, on_batch=on_batch
    )
    check_identities(run, request, anatomy, "-".join(scorer.pair))
    unpatched = run.unpatched_log_probabilities
    frames = [
        scorer.rows(
            "tgt_unpatched",
            None,
            run.unpatched_generated,
            expects_source=False,
            log_p_source=unpatched[:, :split].logsumexp(dim=1),
            log_p_target=unpatched[:, split:].logsumexp(dim=1),
        )
    ]
    if pairs_of is None:
        return frames
    computed = [*pairs_of, "self"]
    for setting in plan.settings:
        frames.extend(_patched_rows(setting, computed.index(setting), run, split, plan, scorer))
    return frames


def _patched_rows(
    setting: str, place: int, run: PatchedRun, split: int, plan: PatchingPlan, scorer: _PairScorer
) -> list[pl.DataFrame]:
    """Rows of one patched setting, one frame a start layer."""
    frames = []
    for index, layer in enumerate(plan.start_layers):
        log_p = run.log_probabilities[place, :, index]
        generated = None
        if layer in plan.generate_at:
            generated = run.generated[place, :, plan.generate_at.index(layer)]
        frames.append(
            scorer.rows(
                setting,
                layer,
                generated,
                expects_source=setting != "self",
                log_p_source=log_p[:, :split].logsumexp(dim=1),
                log_p_target=log_p[:, split:].logsumexp(dim=1),
            )
        )
    return frames


@dataclass(frozen=True)
class _PairScorer:
    """Turns what a run generated for one target pair into rows of `PATCHING_SCHEMA`."""

    pair: LanguagePair
    targets: pl.DataFrame
    words: AnswerWords
    answer: Callable[[Sequence[int]], str]
    plan: PatchingPlan

    def rows(
        self,
        setting: str,
        start_layer: int | None,
        generated: Tensor | None,
        *,
        expects_source: bool,
        log_p_source: Tensor,
        log_p_target: Tensor | None,
    ) -> pl.DataFrame:
        """Rows of all items at one setting and start layer.

        `generated` is `[item, token]` or None where no answer was generated; log-probabilities are
        `[item]`.
        """
        sources = self.targets["source_concept"].to_list()
        targets = self.targets["concept"].to_list()
        expected = sources if expects_source else targets
        answers: list[str | None] = [None] * len(targets)
        outcomes: list[str | None] = [None] * len(targets)
        if generated is not None:
            tokens: list[list[int]] = generated.tolist()
            answers = [self.answer(row) for row in tokens]
            outcomes = [
                self._outcome(self.answer(row), setting, source, target)
                for row, source, target in zip(tokens, sources, targets, strict=True)
            ]
        log_p_expected = log_p_source if expects_source else log_p_target
        columns = {
            "item": self.targets["item"],
            "setting": [setting] * len(targets),
            "input_language": [self.pair[0]] * len(targets),
            "output_language": [self.pair[1]] * len(targets),
            "start_layer": [start_layer] * len(targets),
            "source_concept": sources,
            "target_concept": targets,
            "expected_concept": expected,
            "answer": answers,
            "correct": [None if kind is None else kind in ("correct", "synonym") for kind in outcomes],
            "outcome": outcomes,
            "copyable": [self.words.copyable(concept, self.pair) for concept in expected],
            "log_p_source": _numbers(log_p_source, len(targets)),
            "log_p_target": _numbers(log_p_target, len(targets)),
            "log_p_expected": _numbers(log_p_expected, len(targets)),
        }
        return pl.DataFrame(columns, schema=PATCHING_SCHEMA)

    def _outcome(self, answer: str, setting: str, source: str, target: str) -> str:
        """Class of one answer; which words count as copied or kept depends on the setting."""
        input_language, output_language = self.pair
        expected = target if setting in ("tgt_unpatched", "self") else source
        is_patched_in = setting not in ("tgt_unpatched", "src_unpatched", "self")
        shown = target if setting != "src_unpatched" else source
        copied = [self.words.of(shown, input_language, main_only=True)]
        if is_patched_in:
            copied.append(self.words.of(source, input_language, main_only=True))
        return classify_outcome(
            answer,
            expected=self.words.of(expected, output_language),
            copied=copied,
            kept=self.words.of(target, output_language) if is_patched_in else None,
            other_languages=[
                self.words.of(expected, code) for code in self.words.spaced if code != output_language
            ],
        )


def _numbers(values: Tensor | None, count: int) -> list[float | None]:
    return [None] * count if values is None else values.float().tolist()
