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


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error says that a disk is full or a quota is used up."""
    if getattr(error, "errno", None) in _NUMBERS:
        return True
    return any(text in str(error) for text in _TEXTS)


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
