"""Cross-lingual patching of word translation (CLAP): from prompts and states to scored answers.

For each target language pair, the source concept's states overwrite those of the query word in the
target concept's prompt; the answer shows which concept and which language the model then speaks of
(Dumas et al. 2025, arXiv:2411.08745; Körner et al. 2026, arXiv:2601.22851).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
import torch
from torch import Tensor

from glossogenesis.concepts.fast import run_fast
from glossogenesis.concepts.request import (
    OnBatch,
    PatchedRun,
    PatchPrompt,
    PatchRequest,
    check_identities,
    pad_token_ids,
    run_reference,
)
from glossogenesis.concepts.scoring import AnswerWords, LanguagePair, PairScorer, answer_of
from glossogenesis.concepts.states import SourceStates
from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import CheckedInFloat32, in_float32
from glossogenesis.progress import progress

Decode = Callable[[Sequence[int]], str]

SAMPLE = 4
"""Prompts of each target pair that are computed in float32 too."""

Mode = Literal["fast", "reference"]


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


def patch_translations(
    anatomy: Anatomy,
    prompts: pl.DataFrame,
    states: SourceStates,
    words: AnswerWords,
    decode: Decode,
    plan: PatchingPlan,
) -> pl.DataFrame:
    """Run and score every setting of every measured pair of a prompt table.

    Pairs without patched settings have `tgt_unpatched` alone. Returns rows of `PATCHING_SCHEMA`, in
    the order of the prompt table's pairs. Raises RuntimeError where an identity that must hold on
    any model fails (see `check_identities`).
    """
    decoded: dict[tuple[int, ...], str] = {}

    def answer(tokens: Sequence[int]) -> str:
        key = tuple(token for token in tokens if token >= 0)
        if key not in decoded:
            decoded[key] = answer_of(decode(key))
        return decoded[key]

    groups = _target_groups(prompts)
    frames = []
    runs = sum(group.height * (2 if _name(group) in plan.source_pairs else 1) for group in groups)
    with progress(total=runs, label="patched prompts", unit="prompt") as bar:
        for group in groups:
            pair = (group["input_language"][0], group["output_language"][0])
            scorer = PairScorer(pair, group, words, answer)
            if _name(group) in plan.source_pairs:
                sources = _source_rows(prompts, pair, group)
                frames.append(_unpatched_sources(anatomy, sources, plan, scorer, bar.update))
            frames.extend(_targets(anatomy, group, states, plan, scorer, bar.update))
    return pl.concat(frames)


def check_in_float32(
    anatomy: Anatomy, prompts: pl.DataFrame, states: SourceStates, plan: PatchingPlan
) -> CheckedInFloat32:
    """Check identities in float32 on the first `SAMPLE` prompts of every patched pair.

    All settings and start layers are run, from the states that are given. Raises RuntimeError where
    an identity fails (see `check_identities`).
    """
    checked, largest = 0, 0.0
    with in_float32(anatomy.model):
        for group in _target_groups(prompts):
            if _name(group) not in plan.source_pairs:
                continue
            request, _ = _target_request(anatomy, group.head(SAMPLE), states, plan)
            run = run_patching(anatomy, request, mode=plan.mode, batch_size=plan.batch_size)
            found = check_identities(run, request, anatomy, f"{_name(group)} in float32")
            checked, largest = checked + len(request.prompts), max(largest, found)
    return CheckedInFloat32(checked, largest)


def _target_groups(prompts: pl.DataFrame) -> list[pl.DataFrame]:
    """The target prompts of each measured pair."""
    targets = prompts.filter(pl.col("role") == "target")
    return targets.partition_by(["input_language", "output_language"], maintain_order=True)


def _name(group: pl.DataFrame) -> str:
    """The name of the language pair that a group of prompts has."""
    return f"{group['input_language'][0]}-{group['output_language'][0]}"


def _source_rows(prompts: pl.DataFrame, pair: LanguagePair, group: pl.DataFrame) -> pl.DataFrame:
    """The source prompts of a pair, one for each item of its target prompts, in their order."""
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
    scorer: PairScorer,
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
    states: SourceStates,
    plan: PatchingPlan,
    scorer: PairScorer,
    on_batch: Callable[[int], object],
) -> list[pl.DataFrame]:
    """Rows of `tgt_unpatched` and of every patched setting of one target pair."""
    request, split = _target_request(anatomy, group, states, plan)
    pairs_of = plan.source_pairs.get("-".join(scorer.pair))
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


def _target_request(
    anatomy: Anatomy, group: pl.DataFrame, states: SourceStates, plan: PatchingPlan
) -> tuple[PatchRequest, int]:
    """What is asked of target prompts, and how many columns of its tokens are the source's."""
    source_tokens = pad_token_ids(group["source_answer_tokens"].to_list())
    target_tokens = pad_token_ids(group["answer_tokens"].to_list())
    interest = torch.cat([source_tokens, target_tokens], dim=1)
    split = source_tokens.shape[1]
    pairs_of = plan.source_pairs.get(_name(group))
    if pairs_of is None:
        return _unpatched_request(anatomy, group, interest, plan), split
    source_concepts = group["source_concept"].to_list()
    patches = [states.mean_patch(pairs, source_concepts) for pairs in pairs_of.values()]
    # The identities are checked on every run, so the prompt's own states are always included.
    shape = (0, group.height, anatomy.n_layers, anatomy.d_model)
    stacked = torch.stack(patches) if patches else torch.empty(shape)
    return _request(group, stacked.to(anatomy.dtype), interest, plan, include_self=True), split


def _patched_rows(
    setting: str, place: int, run: PatchedRun, split: int, plan: PatchingPlan, scorer: PairScorer
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


def run_patching(
    anatomy: Anatomy,
    request: PatchRequest,
    *,
    batch_size: int,
    mode: Mode = "fast",
    on_batch: OnBatch | None = None,
) -> PatchedRun:
    """Compute a patching request; both modes give the same result but for rounding.

    Args:
        anatomy: the model.
        request: prompts, patches, start layers and what to measure.
        batch_size: full prompts in one forward pass; `fast` bounds its passes to as many tokens.
        mode: `fast` recomputes only what a patch can change; `reference` runs every prompt in full
            with hooks.
        on_batch: called with how many prompts each batch finished.

    Raises:
        ValueError: the request does not fit the model.
    """
    engine = run_fast if mode == "fast" else run_reference
    return engine(anatomy, request, batch_size=batch_size, on_batch=on_batch)
