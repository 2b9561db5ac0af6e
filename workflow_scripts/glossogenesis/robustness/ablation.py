"""How well a classifier works with its circuit alone, and without it.

Sufficiency is the accuracy with everything but the circuit ablated, divided by that of the whole;
necessity is the accuracy that is lost when the circuit is ablated. An ablated component's output
gives way to its mean over training posts, to zeros, or to its output for another held-out post; the
embedding stays. At all positions the mean is that over all tokens of training posts, and what
another post gives is its output at the last one. Random circuits of the same size are the control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.models.anatomy import COMPONENTS, Anatomy
from glossogenesis.models.batches import batches_by_length, pad_left
from glossogenesis.models.capture import CheckedInFloat32, check_equal, in_float32
from glossogenesis.robustness.circuit import MEASURES, Circuit, Members
from glossogenesis.robustness.components.fast import capture_components, run_components
from glossogenesis.robustness.components.hooks import summing
from glossogenesis.robustness.components.rows import ComponentRows, ComponentValues, Outputs, Where
from glossogenesis.robustness.tokenised_posts import LabelledPosts

Method = Literal["mean", "zero", "resample"]

ABLATIONS_SCHEMA = pl.Schema(
    {
        "set": pl.String,
        "threshold": pl.Float32,
        "measure": pl.String,
        "circuit": pl.String,
        "draw": pl.Int16,
        "size": pl.Int16,
        "method": pl.String,
        "positions": pl.String,
        "n": pl.Int32,
        "correct": pl.Int32,
        "correct_full": pl.Int32,
        "lost": pl.Int32,
        "gained": pl.Int32,
    }
)
"""`circuit` is `effect` (mean effect reaches the threshold), `random` (of the same size, `draw` by
`draw`), `all` or `none`; `size` counts its components. Of `n` held-out posts `correct_full` are
classified correctly by the whole classifier and `correct` by the ablated one; `lost` are right in
the first alone, `gained` in the second alone."""

SAMPLE = 4
"""Held-out posts that are computed in float32 too."""

# Held-out posts whose outputs are in memory together.
POSTS_AT_ONCE = 64

# What a seed is combined with, so that the draws of one kind tell nothing of those of another.
_REFERENCE_POSTS, _OTHER_POSTS = 1, 2


@dataclass(frozen=True)
class AblationRules:
    """How circuits are ablated."""

    methods: Sequence[Method]
    positions: Sequence[Where]
    reference_posts: int
    """Training posts that means are taken over, at most."""
    outputs: Outputs
    """What a component's output is where the architecture normalises it."""
    seed: int
    batch_size: int


@dataclass(frozen=True, eq=False)
class Ablation:
    """One way to run the classifier: what gives way to what, and where."""

    replaced: Members
    method: Method
    positions: Where

    @property
    def key(self) -> tuple[bytes, str, str]:
        """Equal for ablations that have the same effect: without components, all are one."""
        if not self.replaced.any():
            return (b"", "", "")
        return (self.replaced.tobytes(), self.method, self.positions)


def ablation_table(
    anatomy: Anatomy,
    circuits: Sequence[Circuit],
    train: Sequence[Sequence[int]],
    held_out: LabelledPosts,
    rules: AblationRules,
    on_posts: Callable[[float], object] | None = None,
) -> pl.DataFrame:
    """Right answers of the classifier under every ablation of every circuit.

    Args:
        anatomy: the classifier.
        circuits: the circuits, in the order of the rows.
        train: token ids of training posts, which means are taken over.
        held_out: the held-out posts, all of which are classified.
        rules: methods, positions and draws.
        on_posts: called with how many held-out posts each pass finished, a part of one where a
            post is done under some ablations alone.

    Returns rows of `ABLATIONS_SCHEMA`, none where there are no circuits.

    Raises:
        RuntimeError: replacing nothing changes a logit by more than rounding.
        ValueError: another post is asked for and there is a single one.

    """
    asked = [
        (circuit, measure, Ablation(circuit.replaced(measure), method, positions))
        for circuit in circuits
        for measure in MEASURES
        for method in rules.methods
        for positions in rules.positions
    ]
    distinct: dict[tuple[bytes, str, str], Ablation] = {}
    for _, _, ablation in asked:
        distinct.setdefault(ablation.key, ablation)
    if not distinct:
        return pl.DataFrame(schema=ABLATIONS_SCHEMA)
    place = {key: index for index, key in enumerate(distinct)}
    ablations = list(distinct.values())
    full, ablated = _right_answers(anatomy, ablations, train, held_out, rules, on_posts)
    rows = []
    for circuit, measure, ablation in asked:
        right = ablated[place[ablation.key]]
        rows.append(
            {
                "set": circuit.set,
                "threshold": circuit.threshold,
                "measure": measure,
                "circuit": circuit.kind,
                "draw": circuit.draw,
                "size": int(circuit.members.sum()),
                "method": ablation.method,
                "positions": ablation.positions,
                "n": len(full),
                "correct": int(right.sum()),
                "correct_full": int(full.sum()),
                "lost": int((full & ~right).sum()),
                "gained": int((~full & right).sum()),
            }
        )
    return pl.DataFrame(rows, schema=ABLATIONS_SCHEMA)


def check_in_float32(
    anatomy: Anatomy, held_out: LabelledPosts, rules: AblationRules
) -> CheckedInFloat32:
    """Ablate no component of the first `SAMPLE` held-out posts in float32: logits are the same.

    Raises:
        RuntimeError: a logit changes by more than rounding.
    """
    posts = held_out.token_ids[:SAMPLE]
    none = np.zeros((anatomy.n_layers, len(COMPONENTS)), dtype=bool)
    nothing = [Ablation(none, "zero", positions) for positions in rules.positions]
    with in_float32(anatomy.model):
        captured, logits = _capture(anatomy, [*posts, posts[0]], rules)
        zeros = torch.zeros_like(captured.outputs[0])
        means = dict.fromkeys(rules.positions, zeros)
        runs = _runs(anatomy, nothing, posts, captured, means, rules, lambda _: None)
        found = [_check_unchanged(ablated, logits[:-1], anatomy) for _, ablated in runs]
    return CheckedInFloat32(len(posts), max(found))


def mean_outputs(
    anatomy: Anatomy,
    train: Sequence[Sequence[int]],
    rules: AblationRules,
    positions: Where = "last",
) -> Tensor:
    """Mean output of every component, `[layer, component, d_model]`.

    Over the last, or over all, positions of training posts drawn by seed; summed in float64.
    """
    generator = np.random.default_rng([rules.seed, _REFERENCE_POSTS])
    number = min(rules.reference_posts, len(train))
    chosen = sorted(generator.choice(len(train), number, replace=False).tolist())
    if positions == "all":
        return _mean_of_tokens(anatomy, [train[post] for post in chosen], rules)
    total = torch.zeros((), dtype=torch.float64)
    for start in range(0, number, POSTS_AT_ONCE):
        posts = [train[post] for post in chosen[start : start + POSTS_AT_ONCE]]
        values, _ = _capture(anatomy, posts, rules)
        total = total + values.outputs.double().sum(dim=0)
    return total / number


@torch.inference_mode()
def _mean_of_tokens(
    anatomy: Anatomy, posts: Sequence[Sequence[int]], rules: AblationRules
) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for batch in batches_by_length([len(ids) for ids in posts], rules.batch_size):
        padded = pad_left([posts[post] for post in batch], anatomy.device)
        with summing(anatomy, rules.outputs, padded.mask.bool()) as summed:
            anatomy.base(**padded.model_inputs(anatomy), use_cache=False)
        total = total + summed.cpu()
    return total / sum(len(ids) for ids in posts)


def _right_answers(
    anatomy: Anatomy,
    ablations: Sequence[Ablation],
    train: Sequence[Sequence[int]],
    held_out: LabelledPosts,
    rules: AblationRules,
    on_posts: Callable[[float], object] | None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each post is right in the whole classifier, `[post]`, and in `[ablation, post]`.

    Posts are taken in a random circle, each followed by the one whose outputs stand in for its own:
    so each is captured once but for the ends of blocks, and each stands in for one other.
    """
    if "resample" in rules.methods and len(held_out) < 2:
        raise ValueError("one held-out post; outputs for another need two")
    means = {where: mean_outputs(anatomy, train, rules, where) for where in rules.positions}
    labels = np.asarray(held_out.label_ids)
    circle = np.random.default_rng([rules.seed, _OTHER_POSTS]).permutation(len(held_out))
    full = np.empty(len(held_out), dtype=bool)
    ablated = np.empty((len(ablations), len(held_out)), dtype=bool)

    def on_rows(rows: int) -> None:
        if on_posts is not None:
            on_posts(rows / len(ablations))

    for start in range(0, len(circle), POSTS_AT_ONCE):
        posts = circle[start : start + POSTS_AT_ONCE]
        following = circle[(start + len(posts)) % len(circle)]
        token_ids = [held_out.token_ids[post] for post in (*posts, following)]
        captured, logits = _capture(anatomy, token_ids, rules)
        unablated = logits[: len(posts)]
        full[posts] = unablated.argmax(dim=1).numpy() == labels[posts]
        runs = _runs(anatomy, ablations, token_ids[:-1], captured, means, rules, on_rows)
        for index, found in runs:
            if not ablations[index].replaced.any():
                _check_unchanged(found, unablated, anatomy)
                found = unablated
            ablated[index, posts] = found.argmax(dim=1).numpy() == labels[posts]
    return full, ablated


def _runs(
    anatomy: Anatomy,
    ablations: Sequence[Ablation],
    token_ids: Sequence[Sequence[int]],
    captured: ComponentValues,
    means: Mapping[Where, Tensor],
    rules: AblationRules,
    on_rows: Callable[[int], object],
) -> Iterator[tuple[int, Tensor]]:
    """Yield the index of each ablation and the logits `[post, label]` under it.

    `captured` holds the outputs for the posts in `token_ids` and, last, for the one after them.
    """
    posts = torch.arange(len(token_ids))
    sources = {
        "mean": torch.zeros_like(posts),
        "zero": torch.ones_like(posts),
        "resample": 2 + posts + 1,
    }
    for positions in rules.positions:
        chosen = [index for index, each in enumerate(ablations) if each.positions == positions]
        if not chosen:
            continue
        stand_ins = torch.stack([means[positions], torch.zeros_like(means[positions])])
        values = ComponentValues(
            outputs=torch.cat([stand_ins.to(captured.outputs), captured.outputs]),
            embeddings=torch.cat([torch.zeros_like(captured.embeddings[:2]), captured.embeddings]),
        )
        masks = torch.from_numpy(np.stack([ablations[index].replaced for index in chosen]))
        rows = ComponentRows(
            prompts=posts.repeat_interleave(len(chosen)),
            sources=torch.stack(
                [sources[ablations[index].method] for index in chosen], dim=1
            ).flatten(),
            replaced=masks.repeat(len(posts), 1, 1),
            embedding=torch.zeros(len(posts) * len(chosen), dtype=torch.bool),
        )
        logits = run_components(
            anatomy,
            token_ids,
            rows,
            values,
            # The fast engine recomputes the last position alone.
            mode="fast" if positions == "last" else "reference",
            positions=positions,
            outputs=rules.outputs,
            batch_size=rules.batch_size,
            on_batch=on_rows,
        )
        by_ablation = logits.view(len(posts), len(chosen), -1).transpose(0, 1)
        yield from zip(chosen, by_ablation, strict=True)


def _capture(
    anatomy: Anatomy, token_ids: Sequence[Sequence[int]], rules: AblationRules
) -> tuple[ComponentValues, Tensor]:
    return capture_components(
        anatomy, token_ids, outputs=rules.outputs, batch_size=rules.batch_size
    )


def _check_unchanged(ablated: Tensor, unablated: Tensor, anatomy: Anatomy) -> float:
    """RuntimeError where an ablation of no component changes more than rounding does.

    Returns the largest change.

    Where it does not, the predictions are the whole classifier's, also at posts so close to a tie
    that rounding decides.
    """
    what = "ablating no component changes a logit"
    return check_equal(ablated - unablated, anatomy, what, "ablations")
