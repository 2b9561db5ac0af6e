"""The one kind of error that a user can cause."""

from __future__ import annotations

LONGEST = 1500
"""Characters of a message; a longer one loses its middle."""


class StudyError(ValueError):
    """A mistake in a study, sheet, lexicon, file or environment that its user can mend.

    The message names the file, row or key and says what to do about it. It is one line, also where
    it quotes several, and shows what a terminal would obey or hide as an escape.
    """

    def __init__(self, message: str) -> None:
        line = "".join(map(_shown, " ".join(message.splitlines())))
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
        super().__init__(line)


def _shown(character: str) -> str:
    """Return a character, or its escape where it is a control, half a pair or not visible."""
    return character if character.isprintable() else ascii(character)[1:-1]
