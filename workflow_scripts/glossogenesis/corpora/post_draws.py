"""Which posts are taken, and which of them are held out: by a hash of their text and the seed.

So neither depends on the order of files. A larger number of labels or posts has the same ones and
more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glossogenesis.config.posts import PostsPerLabel, PostsSettings
from glossogenesis.errors import StudyError

KEY = "robustness.posts"


@dataclass(frozen=True)
class CleanPost:
    """A post whose parts are stripped and in Unicode's composed form (NFC)."""

    label: str
    title: str
    body: str
    text: str
    """Title, separator and body; where one of them is empty, the other alone."""


Splits = Mapping[str, Sequence[CleanPost]]
Texts = Mapping[str, list[str]]
"""By label."""


def drawn_splits(
    posts: Splits, rule: PostsSettings, removed: str, *, to_split: bool
) -> dict[str, list[CleanPost]]:
    """Draw labels and posts, in their order.

    Args:
        posts: by split; all in `train` where they are yet `to_split`.
        rule: how many labels, and posts of each, or the share that is held out.
        removed: what was removed before, for messages.
        to_split: whether held-out posts are drawn from `train`.

    Raises:
        StudyError: a label has too few posts, or too few labels have enough.
    """
    texts = {split: _by_label(of_split, rule.seed) for split, of_split in posts.items()}
    labels = _drawn_labels(texts, rule, removed, to_split=to_split)
    taken: dict[str, set[str]] = {"train": set(), "held_out": set()}
    for label in labels:
        train, held_out = (texts[split].get(label, []) for split in ("train", "held_out"))
        wanted = rule.posts_per_label
        if to_split:
            number = _held_out(len(train), rule.held_out_share)
            number = number if wanted is None else wanted.held_out
            train, held_out = train[number:], train[:number]
        taken["train"].update(train if wanted is None else train[: wanted.train])
        taken["held_out"].update(held_out if wanted is None else held_out[: wanted.held_out])
    source = {"train": posts["train"], "held_out": posts["train" if to_split else "held_out"]}
    return {
        split: [post for post in source[split] if post.text in drawn]
        for split, drawn in taken.items()
    }


def _by_label(posts: Sequence[CleanPost], seed: int) -> dict[str, list[str]]:
    """Texts of each label, in the order in which they are drawn."""
    found: dict[str, list[str]] = {}
    for post in posts:
        found.setdefault(post.label, []).append(post.text)
    return {
        label: sorted(texts, key=lambda text: _hash(text, seed)) for label, texts in found.items()
    }


def _held_out(number: int, share: float) -> int:
    """So many of a label's posts are held out: at least one, and at least one is left."""
    return min(max(round(share * number), 1), number - 1)


def _drawn_labels(
    texts: Mapping[str, Texts], rule: PostsSettings, removed: str, *, to_split: bool
) -> list[str]:
    """Labels with enough posts, so many as are wanted."""
    per_label = rule.posts_per_label or PostsPerLabel(train=1, held_out=1)
    wanted = {"train": per_label.train, "held_out": per_label.held_out}
    if to_split:
        wanted = {"train": sum(wanted.values())}
    labels = sorted(set(texts["train"]) | set(texts["held_out"]))
    short = [
        (label, split, len(texts[split].get(label, [])))
        for label in labels
        for split, number in wanted.items()
        if len(texts[split].get(label, [])) < number
    ]
    enough = [label for label in labels if label not in {label for label, *_ in short}]
    numbers = f"{per_label.train} + {per_label.held_out}"
    if short and rule.labels is None:
        label, split, number = short[0]
        of_split = "" if to_split else f"{split} "
        raise StudyError(
            f"`{KEY}.posts_per_label`: label {label!r} has {number} {of_split}posts ({removed}), "
            f"fewer than {wanted[split]}; add posts, ask for fewer, or set `{KEY}.labels` to "
            f"{len(enough)}, as many labels as have {numbers}"
        )
    if len(enough) < (rule.labels or 0):
        most = max(short, key=lambda each: each[2], default=None)
        told = f"; of the others {most[0]!r} has most, {most[2]}" if most else ""
        raise StudyError(
            f"`{KEY}.labels`: {rule.labels} labels with {numbers} posts are asked for, but "
            f"{len(enough)} of {len(labels)} have as many ({removed}){told}; add posts, or ask for "
            "fewer"
        )
    if short:
        print(f"{len(labels) - len(enough)} labels have fewer than {numbers} posts: not drawn")
    if rule.labels is None:
        return enough
    return sorted(enough, key=lambda label: _hash(label, rule.seed))[: rule.labels]


def _hash(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{text}".encode()).digest()
