"""From posts as written to the two splits that classifiers are trained and measured on."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from glossogenesis.config.posts import PostsSettings
from glossogenesis.corpora.post_draws import KEY, CleanPost, drawn_splits
from glossogenesis.corpora.posts import LabelledPost, posts_table
from glossogenesis.corpora.splitting import SPLITS
from glossogenesis.errors import StudyError


@dataclass(frozen=True)
class PreparedPosts:
    """Posts in their splits, and what was counted on the way."""

    table: pl.DataFrame
    """Rows of `POSTS_SCHEMA`."""
    facts: Mapping[str, int]
    """`posts_read`, `without_label`, `without_text`, `duplicates_removed`, `repeated_removed`,
    `not_drawn`, `empty_bodies` (of the posts that are kept), `train`, `held_out`, `labels`."""


def prepare_posts(
    train: Sequence[LabelledPost],
    held_out: Sequence[LabelledPost] | None,
    rule: PostsSettings,
) -> PreparedPosts:
    """Clean posts, draw some, and split them; without `held_out`, that is drawn from `train`.

    Posts without a label, or with neither title nor body, are left out. Posts whose text occurs
    under two labels, in either split, are all removed: they cannot be classified. Of posts with
    the same text and label the first is kept, training posts being first. What `rule` has drawn is
    drawn from what is left. StudyError where all posts have one label, a
    label has too few posts, too few labels have enough, or one split lacks a label of the other.
    """
    read = {
        "train": [_clean(post, rule.separator) for post in train],
        "held_out": [_clean(post, rule.separator) for post in held_out or ()],
    }
    every = [post for posts in read.values() for post in posts]
    unlabelled = sum(not post.label for post in every)
    empty = sum(bool(post.label) and not post.text for post in every)
    usable = {
        split: [post for post in posts if post.label and post.text] for split, posts in read.items()
    }
    unambiguous, duplicates = _without_ambiguous(usable)
    kept, repeated = _without_repeats(unambiguous)
    removed = (
        f"after {unlabelled} posts without a label, {empty} without text, {duplicates} of more "
        f"than one label and {repeated} repeats were removed"
    )
    counts = Counter(post.label for posts in kept.values() for post in posts)
    _check_labels(counts, removed)
    if rule.labels is None:
        _check_splits(kept) if held_out is not None else _check_counts(counts, removed)
    drawn = drawn_splits(kept, rule, removed, to_split=held_out is None)
    all_kept = [post for posts in drawn.values() for post in posts]
    facts = {
        "posts_read": len(every),
        "without_label": unlabelled,
        "without_text": empty,
        "duplicates_removed": duplicates,
        "repeated_removed": repeated,
        "not_drawn": sum(map(len, kept.values())) - len(all_kept),
        "empty_bodies": sum(not post.body for post in all_kept),
        **{split: len(posts) for split, posts in drawn.items()},
        "labels": len({post.label for post in all_kept}),
    }
    rows = {split: [asdict(post) for post in posts] for split, posts in drawn.items()}
    return PreparedPosts(posts_table(rows), facts)


def _clean(post: LabelledPost, separator: str) -> CleanPost:
    label, title, body = (
        unicodedata.normalize("NFC", part).strip() for part in (post.label, post.title, post.body)
    )
    text = separator.join(part for part in (title, body) if part)
    return CleanPost(label, title, body, text)


def _without_ambiguous(
    split_posts: Mapping[str, list[CleanPost]],
) -> tuple[dict[str, list[CleanPost]], int]:
    """Return the posts whose text has one label, and the number of all others."""
    labels: dict[str, set[str]] = {}
    for posts in split_posts.values():
        for post in posts:
            labels.setdefault(post.text, set()).add(post.label)
    kept = {
        split: [post for post in posts if len(labels[post.text]) == 1]
        for split, posts in split_posts.items()
    }
    return kept, sum(len(split_posts[split]) - len(kept[split]) for split in kept)


def _without_repeats(
    split_posts: Mapping[str, list[CleanPost]],
) -> tuple[dict[str, list[CleanPost]], int]:
    """Return the first post of each text, and the number of all others."""
    seen: set[str] = set()
    kept: dict[str, list[CleanPost]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for post in split_posts[split]:
            if post.text not in seen:
                seen.add(post.text)
                kept[split].append(post)
    return kept, sum(len(split_posts[split]) - len(kept[split]) for split in SPLITS)


def _check_labels(counts: Mapping[str, int], removed: str) -> None:
    """StudyError where there is nothing to tell apart."""
    if not counts:
        raise StudyError(f"`{KEY}`: no post is left {removed}; give others")
    if len(counts) == 1:
        raise StudyError(
            f"`{KEY}`: all posts have the label {next(iter(counts))!r} ({removed}), and a "
            f"classifier needs two; see `{KEY}.text.label_column`"
        )


def _check_counts(counts: Mapping[str, int], removed: str) -> None:
    """StudyError where a label cannot be in both splits."""
    for label, count in sorted(counts.items()):
        if count == 1:
            raise StudyError(
                f"`{KEY}`: label {label!r} has one post ({removed}), and needs one in each split; "
                "add posts or remove the label"
            )


def _check_splits(split_posts: Mapping[str, list[CleanPost]]) -> None:
    """StudyError where a label is in one split alone."""
    labels = {split: {post.label for post in posts} for split, posts in split_posts.items()}
    for split, other in (("held_out", "train"), ("train", "held_out")):
        alone = sorted(labels[split] - labels[other])
        if alone:
            key = "files" if other == "train" else "held_out_files"
            raise StudyError(
                f"`{KEY}.text`: label {alone[0]!r} has {split} posts but no {other} posts; add "
                f"some to `{key}`, or remove the label"
            )
