"""The one kind of error that a user can cause, and that which costs a checkpoint alone."""

from __future__ import annotations

LONGEST = 1500
"""Characters of a message; a longer one loses its middle."""


class StudyError(ValueError):
    """A mistake in a study, sheet, lexicon, file or environment that its user can fix.

    The message names the file, row or key and says what to do about it. It is one line, also where
    it quotes several, and shows what a terminal would obey or hide as an escape.
    """

    def __init__(self, message: str) -> None:
        line = "".join(map(_shown, " ".join(message.splitlines())))
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
        super().__init__(line)


class NotFiniteError(StudyError):
    """Numbers are NaN or infinite; it costs the checkpoint alone that they are of."""

    @classmethod
    def of_model(cls, described_as: str, what: str, dtype: str) -> NotFiniteError:
        """Return the error of a model whose numbers, such as activations, are not finite."""
        diverged = "its weights are not finite (its training diverged)"
        if dtype == "float32":
            cause = f"{diverged}, or its activations are beyond even float32"
        else:
            cause = (
                f"{diverged}, or its activations are beyond what {dtype} holds: then set its "
                "`dtype` to float32 under `models`"
            )
        return cls(f"{described_as}: {what} are NaN or infinite; either {cause}")


def _shown(character: str) -> str:
    """Return a character, or its escape where it is a control, half a pair or not visible."""
    return character if character.isprintable() else ascii(character)[1:-1]
