"""Text files that a user writes, read as UTF-8 with or without a byte order mark."""

from __future__ import annotations

from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from glossogenesis.errors import StudyError
from glossogenesis.storage.compressed import opened


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

    It may be compressed. `what` names the kind of file, such as `lexicon`; `mend` says what to do
    where there is none. StudyError where it is missing, unreadable or not UTF-8.
    """
    try:
        with opened(Path(path)) as file:
            return TextIOWrapper(file, encoding="utf-8-sig").read()
    except StudyError:
        raise
    except FileNotFoundError:
        raise StudyError(f"{path}: no such {what}; {mend}") from None
    except UnicodeDecodeError:
        raise StudyError(f"{path}: not UTF-8 text; save the {what} as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StudyError(f"{path}: the {what} cannot be read ({reason}); {mend}") from None
