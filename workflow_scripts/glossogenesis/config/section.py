"""The base of every section of a study file, and types that sections share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
"""Names become parts of paths: no slash, no space, no leading dot or dash."""

LANGUAGE_PATTERN = r"^[A-Za-z][A-Za-z0-9]*$"
"""Language codes are joined by dashes in names of tensors, so they hold none."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=80)]
LanguageCode = Annotated[str, StringConstraints(pattern=LANGUAGE_PATTERN, max_length=12)]
LanguagePair = tuple[LanguageCode, LanguageCode]


class Section(BaseModel):
    """A frozen part of a study whose unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
