"""Section `corpora`: text that activations are taken from, language by language."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from glossogenesis.study.section import LanguageCode, PathText, Revision, Section

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Budget = Positive | Annotated[dict[LanguageCode, Positive], Field(min_length=1)]


class CorpusFiles(Section):
    """Text from the user's own files."""

    kind: Literal["files"]
    """Text files of the user's own."""
    files: Annotated[dict[LanguageCode, tuple[PathText, ...]], Field(min_length=1)]
    """Files by language: `.jsonl`, `.ndjson` or `.json` (an object a line), `.parquet` (a row a
    document), or plain text whose documents are separated by empty lines; each but Parquet may be
    compressed (gzip, zstd, bzip2, xz). Relative paths count from the study file's folder."""
    text_column: str = "text"
    """The key or column that holds the text."""
    on_bad_row: Literal["skip", "stop"] = "skip"
    """What to do with a row of JSON lines that cannot be read or has no text under `text_column`:
    `skip` and count it, as rows whose text is null, or `stop`. A file's first row always stops."""
    documents: Literal["paragraphs", "lines"] = "paragraphs"
    """What a document of a plain text file is; `paragraphs`: a block between empty lines; `lines`:
    a line."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of the corpus, in the order written."""
        return tuple(self.files)


class CorpusHub(Section):
    """The Parquet files of a dataset on the Hugging Face Hub."""

    kind: Literal["hub"]
    """A dataset on the Hub."""
    dataset: str
    """The dataset's id, such as `wikimedia/wikipedia`."""
    revision: Revision | None = None
    """A branch, tag or commit; the resolved commit is recorded."""
    files: Annotated[dict[LanguageCode, str], Field(min_length=1)]
    """Pattern of each language's Parquet files, such as `20231101.ja/*.parquet`; files are taken in
    the order of their names, only as many as the token budget needs."""
    text_column: str = "text"
    """The column that holds the text."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of the corpus, in the order written."""
        return tuple(self.files)


class CorpusDemo(Section):
    """Text of the demo world in one language a document."""

    kind: Literal["demo"]
    """Text generated from the lexicon."""
    languages: Annotated[tuple[LanguageCode, ...], Field(min_length=1)]
    """Languages of the corpus."""
    monolingual: Share = 0.5
    """Share of documents that are running text; the others are lines of words, copied."""
    glossary: Share = 0.3
    """Share of the other documents that are glossaries."""


class CorpusSettings(Section):
    """A corpus: its text, and how it is cut into contexts."""

    text: Annotated[CorpusFiles | CorpusHub | CorpusDemo, Field(discriminator="kind")]
    """Where the text comes from."""
    train_tokens: Budget
    """Tokens of each language to train on: one number for all (balanced), or a number each."""
    held_out_tokens: Budget
    """Tokens of each language to measure with, from other documents."""
    context: Annotated[int, Field(ge=2)] = 1024
    """Tokens of a sequence."""
    fill: Literal["packed", "padded"] = "packed"
    """`packed`: documents follow each other, cut regardless of where they end; `padded`: a document
    a sequence, truncated or padded on the right and masked."""
    drop_first: bool = True
    """Whether the first token of each sequence is left out of everything that is measured or
    trained on: its activation is unlike any other's."""
    held_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the documents that are held out, decided by a hash of each document."""
    seed: int = 0
    """Seed of generated text."""

    @model_validator(mode="after")
    def _budgets_of_all_languages(self) -> CorpusSettings:
        for key in ("train_tokens", "held_out_tokens"):
            budget = getattr(self, key)
            if isinstance(budget, dict) and set(budget) != set(self.text.languages):
                raise ValueError(
                    f"{key} names {', '.join(sorted(budget))}, but the text has "
                    f"{', '.join(sorted(self.text.languages))}; give one number, or one for each"
                )
        return self

    def tokens_of(self, split: Literal["train", "held_out"], language: str) -> int:
        """Return the token budget of a language in a split."""
        budget = self.train_tokens if split == "train" else self.held_out_tokens
        return budget if isinstance(budget, int) else budget[language]
