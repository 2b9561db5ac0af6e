"""Labelled posts in two splits, and the spellings that a concept is written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.corpora.documents import SPLITS
from glossogenesis.corpora.lexicon import TableRow, read_rows
from glossogenesis.exceptions import StudyError
from glossogenesis.storage.tables import read_table

POSTS_SCHEMA = pl.Schema(
    {
        "post": pl.Int32,
        "split": pl.String,
        "number": pl.Int32,
        "label": pl.String,
        "title": pl.String,
        "body": pl.String,
        "text": pl.String,
    }
)
"""`post` counts all posts from 0, `train` first; `number` counts those of a split. `text` is title,
separator and body as a model reads them."""

WRITTEN_COLUMNS = ("label", "title", "body", "text")

FIX = "remake the posts with `snakemake --forcerun prepare_posts`"

KINDS = ("kanji", "hiragana", "katakana", "abbreviation", "borrowed")

COLUMNS = ("concept", "kind", "variant", "sentence")


@dataclass(frozen=True)
class LabelledPost:
    """One post as it was written."""

    label: str
    title: str
    """Empty where it has none."""
    body: str


@dataclass(frozen=True, eq=False)
class Posts:
    """`posts.parquet` in memory."""

    table: pl.DataFrame
    """Rows of `POSTS_SCHEMA`, by `post`."""
    path: Path
    labels: tuple[str, ...]
    """Labels of the training posts, sorted; a label's id is its index."""

    def of(self, split: str) -> pl.DataFrame:
        """Return the posts of `train` or `held_out`, by `number`."""
        assert split in SPLITS, split
        return self.table.filter(pl.col("split") == split)

    def label_ids(self, split: str) -> NDArray[np.int64]:
        """Return the label of each post of a split, `[post]`, as an index into `labels`."""
        ids = {label: number for number, label in enumerate(self.labels)}
        return np.array([ids[label] for label in self.of(split)["label"]], dtype=np.int64)


def posts_table(splits: Mapping[str, Sequence[Mapping[str, str]]]) -> pl.DataFrame:
    """Number the posts of each split, rows of `WRITTEN_COLUMNS`, in their order."""
    rows = [
        {"split": split, "number": number, **row}
        for split in SPLITS
        for number, row in enumerate(splits[split])
    ]
    return pl.DataFrame(
        [{"post": post, **row} for post, row in enumerate(rows)], schema=POSTS_SCHEMA
    )


def read_posts(path: Path | str) -> Posts:
    """Read posts and check what readers rely on.

    StudyError where the file is missing or damaged, has other columns, is not numbered in order,
    or has a held-out post of a label that no training post has.
    """
    path = Path(path)
    table = read_table(path)
    if table.schema != POSTS_SCHEMA:
        raise StudyError(f"{path}: not a table of posts; {FIX}")
    rows = {split: table.filter(pl.col("split") == split) for split in SPLITS}
    for split, posts in rows.items():
        if posts["number"].to_list() != list(range(posts.height)) or not posts.height:
            raise StudyError(f"{path}: the posts of {split!r} are not numbered in order; {FIX}")
    train, held_out = rows["train"], rows["held_out"]
    in_order = table["split"].to_list() == ["train"] * train.height + ["held_out"] * held_out.height
    if not in_order or table["post"].to_list() != list(range(table.height)):
        raise StudyError(f"{path}: the posts are not numbered in order; {FIX}")
    labels = tuple(sorted(set(train["label"])))
    unknown = sorted(set(held_out["label"]) - set(labels))
    if unknown:
        raise StudyError(f"{path}: no training post has the label {unknown[0]!r}; {FIX}")
    return Posts(table, path, labels)


@dataclass(frozen=True)
class Spelling:
    """One spelling of a concept, in a sentence of its own."""

    concept: str
    kind: str
    """One of `KINDS`."""
    variant: str
    sentence: str
    """Holds `variant` exactly once."""


def read_spellings(path: Path | str) -> tuple[Spelling, ...]:
    """Read a table of spellings in its own order.

    StudyError names the line where a kind is unknown, a sentence does not hold its spelling exactly
    once, or a spelling of a concept or a sentence is repeated; and a concept with one spelling.
    """
    rows = read_rows(
        path, "table of spellings", COLUMNS, "see `robustness` in the study for the file's name"
    )
    if not rows:
        raise StudyError(f"{path}: holds no spelling; add rows")
    spellings = tuple(_spelling(row) for row in rows)
    _check_repeats(rows, spellings)
    for concept, count in Counter(spelling.concept for spelling in spellings).items():
        if count == 1:
            raise StudyError(
                f"{path}: concept {concept!r} has one spelling; add another, or remove the row"
            )
    return spellings


def span_of(text: str, variant: str) -> tuple[int, int]:
    """Return where a spelling stands in a text: its first character and the one after its last.

    StudyError where it does not stand there exactly once.
    """
    if not variant or text.count(variant) != 1:
        raise StudyError(
            f"{variant!r} stands {text.count(variant) if variant else 0} times in {text!r}; write "
            "a sentence that holds it exactly once"
        )
    start = text.index(variant)
    return start, start + len(variant)


def _spelling(row: TableRow) -> Spelling:
    spelling = Spelling(**row.cells)
    if spelling.kind not in KINDS:
        raise StudyError(
            f"{row.place}: unknown kind {spelling.kind!r}; kinds are {', '.join(KINDS)}"
        )
    try:
        span_of(spelling.sentence, spelling.variant)
    except StudyError as error:
        raise StudyError(f"{row.place}: {error}") from None
    return spelling


def _check_repeats(rows: list[TableRow], spellings: tuple[Spelling, ...]) -> None:
    """StudyError at the second of two rows that say the same."""
    seen: dict[tuple[str, ...], str] = {}
    for row, spelling in zip(rows, spellings, strict=True):
        for what, key in (
            ("spelling", (spelling.concept, spelling.variant)),
            ("sentence", (spelling.sentence,)),
        ):
            if key in seen:
                raise StudyError(
                    f"{row.place}: the {what} {key[-1]!r} stands in {seen[key]} too; remove one"
                )
            seen[key] = row.place
