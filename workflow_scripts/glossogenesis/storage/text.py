"""Text files that a user writes, read as UTF-8 with or without a byte order mark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glossogenesis.errors import StudyError


def filled_cells(cells: Sequence[str], columns: int = 0) -> list[str]:
    """Return the cells of a row without empty ones at its end, but at least `columns` of them.

    Spreadsheets write surplus separators, which mean nothing.
    """
    end = len(cells)
    while end > columns and not cells[end - 1].strip():
        end -= 1
    return list(cells[:end])


def read_text(path: Path | str, what: str, mend: str) -> str:
    """Read a text file.

    `what` names the kind of file, such as `lexicon`; `mend` says what to do where there is none.
    StudyError where it is missing, unreadable or not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise StudyError(f"{path}: no such {what}; {mend}") from None
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not UTF-8 text; save the {what} as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StudyError(f"{path}: the {what} cannot be read ({reason}); {mend}") from None
