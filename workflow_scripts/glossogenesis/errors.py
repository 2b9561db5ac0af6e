"""The one kind of error that a user can cause."""


class StudyError(ValueError):
    """A mistake in a study, sheet, lexicon, file or environment that its user can mend.

    The message names the file, row or key and says what to do about it. It is one line, also where
    it quotes several.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))
