"""Section `robustness.posts`: posts with a title, a body and a label."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from glossogenesis.study.section import LanguageCode, PathText, Section

Positive = Annotated[int, Field(ge=1)]


class PostFiles(Section):
    """Posts from the user's own files."""

    kind: Literal["files"]
    """Files of the user's own."""
    files: Annotated[tuple[PathText, ...], Field(min_length=1)]
    """`.tsv` with a header, `.jsonl` (an object a line) or `.parquet`; relative paths count from
    the study file's folder."""
    held_out_files: tuple[PathText, ...] = ()
    """Files of held-out posts; where there are none, posts are split at random, label by label."""
    title_column: str | None = "title"
    """The column of titles; null where posts have none."""
    body_column: str = "body"
    """The column of bodies."""
    label_column: str = "label"
    """The column of labels."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file, as written in the study."""
        return (*self.files, *self.held_out_files)


class PostsDemo(Section):
    """Posts of the demo world: Japanese communities with known cues."""

    kind: Literal["demo"]
    """Posts generated from a table of communities."""
    communities: PathText
    """Table of communities: topic words, style markers and spellings."""
    spellings: PathText
    """Table of spellings of the communities' topics: `concept`, `kind`, `variant`, `sentence`."""
    limit: Annotated[int, Field(ge=2)] | None = None
    """Only the first so many communities; all of the table where absent."""
    train_posts: Positive = 120
    """Training posts of each community."""
    held_out_posts: Positive = 60
    """Held-out posts of each community."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file, as written in the study."""
        return (self.communities, self.spellings)


class PostsPerLabel(Section):
    """Posts that are drawn of each label."""

    train: Positive
    """Training posts."""
    held_out: Positive
    """Held-out posts."""


class PostsSettings(Section):
    """Labelled posts, how they are cleaned, drawn, and split."""

    text: Annotated[PostFiles | PostsDemo, Field(discriminator="kind")]
    """Where posts come from."""
    language: LanguageCode
    """The posts' language, one of `languages`."""
    labels: Annotated[int, Field(ge=2)] | None = None
    """Labels that are drawn, of those with enough posts; all where absent."""
    posts_per_label: PostsPerLabel | None = None
    """Posts that are drawn of each label; all where absent."""
    held_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of each label's posts that are held out, where neither files say which nor
    `posts_per_label` how many."""
    separator: str = "\n"
    """What stands between title and body."""
    seed: int = 0
    """Draws demo posts, labels, posts and the split."""

    @model_validator(mode="after")
    def _one_way_to_split(self) -> PostsSettings:
        if self.posts_per_label is not None and "held_out_share" in self.model_fields_set:
            raise ValueError("`posts_per_label` says how many are held out; remove the share")
        return self
