"""The one kind of error that a user can cause."""


class StudyError(ValueError):
    """A mistake in a study, sheet, lexicon, file or environment that its user can mend.

    The message is one line that names the file, row or key and says what to do about it.
    """
