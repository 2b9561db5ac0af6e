"""From posts as written in a user's files to the two splits that classifiers work on.

So neither depends on the order of files. A larger number of labels or posts has the same ones and
more.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.corpora.documents import JSON_LINES, SPLITS
from glossogenesis.corpora.posts import LabelledPost, posts_table
from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import filled_cells, read_text, suffix_within
from glossogenesis.study.robustness import PostFiles, PostsPerLabel, PostsSettings

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

WHERE = "see `robustness.posts.text` in the study"


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
        others = f"; of the others {most[0]!r} has most, {most[2]}" if most else ""
        raise StudyError(
            f"`{KEY}.labels`: {rule.labels} labels with {numbers} posts are asked for, but "
            f"{len(enough)} of {len(labels)} have as many ({removed}){others}; add posts, or ask "
            "for fewer"
        )
    if short:
        print(f"{len(labels) - len(enough)} labels have fewer than {numbers} posts: not drawn")
    if rule.labels is None:
        return enough
    return sorted(enough, key=lambda label: _hash(label, rule.seed))[: rule.labels]


def _hash(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{text}".encode()).digest()


@dataclass(frozen=True)
class FileRow:
    """One row of a file, of whatever values."""

    values: Mapping[str, Any]
    place: str
    """File and line or row, for messages."""


def read_post_file(path: Path | str, columns: PostFiles) -> list[LabelledPost]:
    """Read the posts of a file in its own order.

    `.tsv` has a header, tabs between cells, and cells in double quotes where they hold tabs, line
    breaks or quotes; `.jsonl`, `.ndjson` and `.json` hold an object a line; `.parquet` a row a
    post. All but the last may be compressed. A label is a string or a whole number; a label, title
    or body that is null is empty. StudyError names the file, its line or row, and the column where
    one is missing or a value is no string.
    """
    path = Path(path)
    readers = {
        ".tsv": _tsv_rows,
        **dict.fromkeys(JSON_LINES, _json_rows),
        ".parquet": _parquet_rows,
    }
    suffix = suffix_within(path)
    if suffix not in readers:
        raise StudyError(f"{path}: posts are read from {', '.join(readers)} files; {WHERE}")
    if not path.is_file():
        raise StudyError(f"{path}: no such file of posts; {WHERE}")
    wanted = _wanted_columns(columns)
    posts = [_post(row, columns) for row in readers[suffix](path, wanted)]
    if not posts:
        raise StudyError(f"{path}: holds no post; fill it or take it out of the study")
    return posts


def _wanted_columns(columns: PostFiles) -> dict[str, str]:
    """Return the key of the study that names each column."""
    wanted = {columns.label_column: "label_column", columns.body_column: "body_column"}
    if columns.title_column is not None:
        wanted[columns.title_column] = "title_column"
    return wanted


def _tsv_rows(path: Path, wanted: Mapping[str, str]) -> Iterator[FileRow]:
    text = read_text(path, "file of posts", WHERE)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True)
    header: list[str] = []
    before = 0
    try:
        for cells in reader:
            place = f"{path}, line {before + 1}"
            before = reader.line_num
            if not header:
                header = filled_cells([cell.strip() for cell in cells])
                _require_columns(str(path), header, wanted)
            elif any(cell.strip() for cell in cells):
                cells = filled_cells(cells, len(header))
                if len(cells) != len(header):
                    raise StudyError(
                        f"{place}: {len(cells)} cells for {len(header)} columns; put a cell that "
                        "holds tabs or line breaks in double quotes"
                    )
                yield FileRow(dict(zip(header, cells, strict=True)), place)
    except csv.Error as error:
        raise StudyError(
            f"{path}, line {before + 1}: not a tab-separated row ({error}); double the quotes "
            "within a cell in quotes, and close it"
        ) from None


def _json_rows(path: Path, wanted: Mapping[str, str]) -> Iterator[FileRow]:
    # Not splitlines: JSON strings may hold other separators of lines.
    lines = read_text(path, "file of posts", WHERE).split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise StudyError(f"{place}: not valid JSON ({error.msg})") from None
        if not isinstance(row, dict):
            example = ", ".join(f'"{column}": "..."' for column in wanted)
            raise StudyError(f"{place}: no object; each line is one such as {{{example}}}")
        _require_columns(place, list(row), wanted)
        yield FileRow(row, place)


def _parquet_rows(path: Path, wanted: Mapping[str, str]) -> Iterator[FileRow]:
    try:
        _require_columns(str(path), list(pl.read_parquet_schema(path)), wanted)
        table = pl.read_parquet(path, columns=list(wanted))
        table = table.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    except (pl.exceptions.PolarsError, OSError) as error:
        first_line = str(error).splitlines()[0]
        raise StudyError(f"{path}: damaged Parquet file ({first_line}); write it again") from None
    for number, row in enumerate(table.iter_rows(named=True), start=1):
        yield FileRow(row, f"{path}, row {number}")


def _require_columns(place: str, present: list[str], wanted: Mapping[str, str]) -> None:
    for column, key in wanted.items():
        if column not in present:
            or_none = ", or set it to null if posts have no titles" if key == "title_column" else ""
            raise StudyError(
                f"{place}: no column {column!r} (there: {', '.join(present)}); name the right one "
                f"under `robustness.posts.text.{key}`{or_none}"
            )
        if present.count(column) > 1:
            raise StudyError(f"{place}: column {column!r} appears twice; rename or remove one")


def _post(row: FileRow, columns: PostFiles) -> LabelledPost:
    label = row.values[columns.label_column]
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    return LabelledPost(
        "" if label is None else _checked(row, columns.label_column, label),
        "" if columns.title_column is None else _text(row, columns.title_column),
        _text(row, columns.body_column),
    )


def _text(row: FileRow, column: str) -> str:
    value = row.values[column]
    return "" if value is None else _checked(row, column, value)


def _checked(row: FileRow, column: str, value: Any) -> str:
    """Return a value that is text; JSON can hold others, and halves of surrogate pairs."""
    if not isinstance(value, str):
        raise StudyError(
            f"{row.place}: {value!r} in column {column!r} is no string; put it in quotes"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise StudyError(
            f"{row.place}: half of a surrogate pair in column {column!r}, which is no character; "
            "remove it"
        ) from None
    return value
