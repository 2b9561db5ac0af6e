"""Section `hub`: how files of the Hugging Face Hub are fetched, and what becomes of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import StringConstraints

from glossogenesis.errors import StudyError
from glossogenesis.study.section import Section

if TYPE_CHECKING:
    from glossogenesis.study.study import Study

COMMIT_PATTERN = r"^[0-9a-f]{40}$"

HubId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
"""A repository of the Hub, `organisation/name`."""

WORDS_OF_MODES = tuple(
    f"{network}-{downloads}"
    for network in ("online", "offline")
    for downloads in ("keep", "remove")
)
"""What programs take as `--hub`."""


class HubSettings(Section):
    """How files of the Hugging Face Hub are fetched, and what becomes of them.

    Nothing of it changes what is computed, so none of it recomputes anything.
    """

    offline: bool = False
    """Whether only files that are already on this machine are used, and the network never."""
    keep_downloads: bool = True
    """Whether downloads stay in the Hub's cache (`HF_HOME`). Else they go to `results/downloads`,
    and the weights of a checkpoint are removed when all that the study makes from them is there."""

    @property
    def mode(self) -> str:
        """The section as one word, such as `online-keep`."""
        network = "offline" if self.offline else "online"
        return f"{network}-{'keep' if self.keep_downloads else 'remove'}"

    @classmethod
    def of_mode(cls, mode: str) -> HubSettings:
        """Return the section that `mode` is of."""
        network, _, downloads = mode.partition("-")
        return cls(offline=network == "offline", keep_downloads=downloads == "keep")


def is_commit(revision: str | None) -> bool:
    """Tell whether a revision is written as a full commit, which no branch can move."""
    return revision is not None and re.match(COMMIT_PATTERN, revision) is not None


def check_remote_code(study: Study) -> None:
    """A model that may run its repository's code names that repository, at full commits.

    StudyError names the first row that is another's or not at a commit.
    """
    sheet = study.path(study.settings.checkpoints)
    for row in study.sheet:
        allowed = getattr(study.settings.models.get(row.model), "remote_code", None)
        if allowed is None:
            continue
        at = f"{sheet}: checkpoint {row.checkpoint!r} of model {row.model!r}"
        if row.source != allowed:
            raise StudyError(
                f"{at} has source {row.source!r}, but `models.{row.model}.remote_code` allows the "
                f"code of {allowed!r} alone; correct one of them, or give it a model of its own"
            )
        if not is_commit(row.revision):
            raise StudyError(
                f"{at} has revision {row.revision!r}, but code is only run from a full commit (40 "
                f"digits), because `models.{row.model}.remote_code` is set; write the commit"
            )
