"""Section `languages`: what the workflow needs to know about each language."""

from __future__ import annotations

import re
from typing import Annotated

import regex
from pydantic import AfterValidator, Field

from glossogenesis.study.section import Section

JAPANESE = "Japanese"
"""Kana and Han together, which is no script of Unicode's own."""

_NO_SCRIPT = ("Common", "Inherited", "Unknown", "Katakana_Or_Hiragana")
_NAMES_OF_FOUR = ("Ahom", "Cham", "Kawi", "Lisu", "Miao", "Modi", "Newa", "Seal", "Thai", "Toto")
"""Scripts whose names are as long as the codes of ISO 15924, which are not taken."""


def _known_script(written: str) -> str:
    """Return a script's name as Unicode writes it, such as `Old_Italic`."""
    name = "_".join(part.capitalize() for part in re.split(r"[ _-]", written.strip()))
    is_code = len(name) == len("Latn") and name not in _NAMES_OF_FOUR
    if name == JAPANESE:
        return name
    try:
        if name in _NO_SCRIPT or is_code or not name.replace("_", "").isalpha():
            raise ValueError
        regex.compile(rf"\p{{Script={name}}}")
    except (ValueError, regex.error):
        raise ValueError(
            "is no script of Unicode; write its name in full, such as Latin, Cyrillic, Japanese, "
            "Han, Thai, Bengali, Georgian or Ethiopic"
        ) from None
    return name


Script = Annotated[str, AfterValidator(_known_script)]
"""A script of Unicode by its name, or `Japanese`."""

SCRIPTS_WITHOUT_SPACES: frozenset[str] = frozenset(
    {JAPANESE, "Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar",
     "Tibetan", "Tai_Tham", "Tai_Viet", "New_Tai_Lue", "Javanese", "Balinese", "Yi", "Tangut",
     "Nushu", "Khitan_Small_Script"}
)  # fmt: skip
"""Scripts in which no space ends a word, so that an answer must equal a word exactly."""


class LanguageSettings(Section):
    """One language of a study; figures group and colour by these facts."""

    endonym: Annotated[str, Field(min_length=1)]
    """The language's name in itself, as prompts use it, for example `Español`."""
    script: Script
    """Its script by Unicode's name, such as `Latin`, `Thai` or `Ethiopic`, or `Japanese`; decides
    whether words are delimited by spaces."""
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
