"""Spellings of concepts: one word in several scripts, shortened, or borrowed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.corpora.tab_separated import TableRow, read_rows
from glossogenesis.errors import StudyError

KINDS = ("kanji", "hiragana", "katakana", "abbreviation", "borrowed")

COLUMNS = ("concept", "kind", "variant", "sentence")


@dataclass(frozen=True)
class Spelling:
    """One spelling of a concept, in a sentence of its own."""

    concept: str
    kind: str
    """One of `KINDS`."""
    variant: str
    sentence: str
    """Holds `variant` exactly once."""


def read_spellings(path: Path | str) -> tuple[Spelling, ...]:
    """Read a table of spellings in its own order.

    StudyError names the line where a kind is unknown, a sentence does not hold its spelling exactly
    once, or a spelling of a concept or a sentence is repeated; and a concept with one spelling.
    """
    rows = read_rows(
        path, "table of spellings", COLUMNS, "see `robustness` in the study for the file's name"
    )
    if not rows:
        raise StudyError(f"{path}: holds no spelling; add rows")
    spellings = tuple(_spelling(row) for row in rows)
    _check_repeats(rows, spellings)
    for concept, count in Counter(spelling.concept for spelling in spellings).items():
        if count == 1:
            raise StudyError(
                f"{path}: concept {concept!r} has one spelling; add another, or remove the row"
            )
    return spellings


def span_of(text: str, variant: str) -> tuple[int, int]:
    """Return where a spelling stands in a text: its first character and the one after its last.

    StudyError where it does not stand there exactly once.
    """
    if not variant or text.count(variant) != 1:
        raise StudyError(
            f"{variant!r} stands {text.count(variant) if variant else 0} times in {text!r}; write "
            "a sentence that holds it exactly once"
        )
    start = text.index(variant)
    return start, start + len(variant)


def _spelling(row: TableRow) -> Spelling:
    spelling = Spelling(**row.cells)
    if spelling.kind not in KINDS:
        raise StudyError(
            f"{row.place}: unknown kind {spelling.kind!r}; kinds are {', '.join(KINDS)}"
        )
    try:
        span_of(spelling.sentence, spelling.variant)
    except StudyError as error:
        raise StudyError(f"{row.place}: {error}") from None
    return spelling


def _check_repeats(rows: list[TableRow], spellings: tuple[Spelling, ...]) -> None:
    """StudyError at the second of two rows that say the same."""
    seen: dict[tuple[str, ...], str] = {}
    for row, spelling in zip(rows, spellings, strict=True):
        for what, key in (
            ("spelling", (spelling.concept, spelling.variant)),
            ("sentence", (spelling.sentence,)),
        ):
            if key in seen:
                raise StudyError(
                    f"{row.place}: the {what} {key[-1]!r} stands in {seen[key]} too; remove one"
                )
            seen[key] = row.place
