"""What `make docs` prints of a section's keys and of a table's columns."""

from __future__ import annotations

from typing import Literal

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.inspection import guide
from glossogenesis.inspection.columns import TableMeaning
from glossogenesis.study.section import Section
from glossogenesis.study.setups import GRID_SCHEMA


class Brush(Section):
    """A section with a key of each kind."""

    colour: str
    """What it paints."""
    hair: Literal["fine", "coarse"] = "fine"
    """Sort of its hair."""
    size: Literal["small", "large"] = "small"
    """`small`, or `large` for walls."""
    ends: tuple[str, ...] = ("a", "b")
    """Its two ends."""
    between: str = "\n"
    """What stands between; see docs/study.md#models."""


def test_a_key_has_its_default_meaning_and_choices() -> None:
    assert guide.key_table("Brush", Brush.model_json_schema())[2:] == [
        "| `colour` | *required* | What it paints. |",
        "| `hair` | `fine` | Sort of its hair. One of `fine`, `coarse`. |",
        "| `size` | `small` | `small`, or `large` for walls. |",
        "| `ends` | `[a, b]` | Its two ends. |",
        '| `between` | `"\\n"` | What stands between; see docs/study.md#models. |',
    ]


def test_a_key_without_meaning_is_refused() -> None:
    class Bare(Section):
        colour: str

    with pytest.raises(StudyError, match=r"Bare\.colour: write its meaning below the field"):
        guide.key_table("Bare", Bare.model_json_schema())


def test_a_column_without_meaning_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = TableMeaning("study.setups.GRID_SCHEMA", {"model": "The model."})
    monkeypatch.setattr(guide, "table_meanings", lambda: {"grid": table})
    with pytest.raises(StudyError, match="say what column 'checkpoints' of grid means"):
        guide.column_table("grid")


def test_a_meaning_without_column_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    explained = dict.fromkeys((*GRID_SCHEMA, "colour"), "Something.")
    table = TableMeaning("study.setups.GRID_SCHEMA", explained)
    monkeypatch.setattr(guide, "table_meanings", lambda: {"grid": table})
    with pytest.raises(StudyError, match="grid has no column 'colour'; remove it"):
        guide.column_table("grid")


def test_a_page_keeps_what_is_written_by_hand_and_gets_links() -> None:
    page = "Before.\n\n<!-- keys: StudySettings -->\n\nold\n\n<!-- end -->\n\nAfter.\n"
    new = guide.renewed(page, "study.md")
    assert new.startswith("Before.\n\n<!-- keys: StudySettings -->\n\n| key | default | meaning |")
    assert new.endswith("|\n\n<!-- end -->\n\nAfter.\n")
    assert "see [below](#models)" in new
    assert "see [hub.md](hub.md)" in new
    assert guide.renewed(new, "study.md") == new
