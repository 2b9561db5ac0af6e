"""A full disk, told apart from other errors and told in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glossogenesis.errors import StudyError

_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
# polars and safetensors put the number into the text of errors of their own.
_TEXTS = tuple(f"os error {number})" for number in _NUMBERS)


def is_disk_full(error: BaseException | None) -> bool:
    """Tell whether an error, or one that led to it, says that a disk or a quota is full."""
    while error is not None:
        if getattr(error, "errno", None) in _NUMBERS or any(text in str(error) for text in _TEXTS):
            return True
        error = error.__context__
    return False


@contextmanager
def full_disk_in_one_line(path: Path | str, options: str = "Free some space") -> Iterator[None]:
    """Turn what a full disk or an exhausted quota raises into StudyError with the `options`."""
    try:
        yield
    except StudyError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise StudyError(
            f"{path}: the disk is full. {options}. What is finished stays: rerun to continue"
        ) from None
