"""Section `lexicon`: the words that concepts are tested with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from glossogenesis.study.section import LanguageCode, PathText, Section


class LexiconSettings(Section):
    """Where the lexicon lies, how it is read and which of its concepts are used."""

    path: PathText
    """The file; a relative path counts from the study file's folder."""
    format: Literal["tsv", "multisimlex", "concepticon"] = "tsv"
    """`tsv`: a column a language; `multisimlex`: translation.csv of Multi-SimLex; `concepticon`: a
    concept list of Concepticon."""
    pos: Annotated[tuple[str, ...], Field(min_length=1)] = ("noun",)
    """Parts of speech that are used; a list without parts of speech counts as nouns."""
    limit: Annotated[int, Field(ge=2)] | None = None
    """Use only the first so many concepts; all where absent."""
    columns: dict[LanguageCode, str] = Field(default_factory=dict)
    """Column names that differ from the format's usual ones, by language."""
