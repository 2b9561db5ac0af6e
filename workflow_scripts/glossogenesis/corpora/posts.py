"""Labelled posts in two splits: the artifact `results/posts/posts.parquet`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.corpora.splitting import SPLITS
from glossogenesis.errors import StudyError
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

MEND = "remake the posts with `snakemake --forcerun prepare_posts`"


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
        raise StudyError(f"{path}: not a table of posts; {MEND}")
    rows = {split: table.filter(pl.col("split") == split) for split in SPLITS}
    for split, posts in rows.items():
        if posts["number"].to_list() != list(range(posts.height)) or not posts.height:
            raise StudyError(f"{path}: the posts of {split!r} are not numbered in order; {MEND}")
    train, held_out = rows["train"], rows["held_out"]
    in_order = table["split"].to_list() == ["train"] * train.height + ["held_out"] * held_out.height
    if not in_order or table["post"].to_list() != list(range(table.height)):
        raise StudyError(f"{path}: the posts are not numbered in order; {MEND}")
    labels = tuple(sorted(set(train["label"])))
    unknown = sorted(set(held_out["label"]) - set(labels))
    if unknown:
        raise StudyError(f"{path}: no training post has the label {unknown[0]!r}; {MEND}")
    return Posts(table, path, labels)
