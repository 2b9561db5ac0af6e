"""Section `languages`: what the workflow needs to know about each language."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from glossogenesis.config.section import Section

Script = Literal[
    "Latin", "Cyrillic", "Japanese", "Han", "Arabic", "Hebrew", "Devanagari", "Hangul", "Greek"
]

SCRIPTS_WITHOUT_SPACES: frozenset[str] = frozenset({"Japanese", "Han"})
"""Scripts in which no space ends a word, so that an answer must equal a word exactly."""


class LanguageSettings(Section):
    """One language of a study; figures group and colour by these facts."""

    endonym: Annotated[str, Field(min_length=1)]
    """The language's name in itself, as prompts use it, for example `Español`."""
    script: Script
    """Its script; decides whether words are delimited by spaces."""
    group: str
    """A label by which figures group languages, for example `high-resource` or `unseen`."""
    share: dict[int, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Share of the pretraining text by phase, for example `{1: 0.4, 2: 0.2}`; 0 or absent: none."""
    seen: bool | None = None
    """Whether pretraining saw the language; by default, whether some share is above 0."""

    @property
    def is_seen(self) -> bool:
        """Whether the language occurs in any pretraining phase."""
        if self.seen is not None:
            return self.seen
        return any(share > 0 for share in self.share.values())

    @property
    def spaced(self) -> bool:
        """Whether spaces delimit its words."""
        return self.script not in SCRIPTS_WITHOUT_SPACES
