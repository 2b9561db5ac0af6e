"""Tables of the user guide, for tests that compare them with the code."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"


def table_below(page: str, marker: str) -> dict[str, list[str]]:
    """Return the rows of the table below a marker of a page, by the name in their first cell."""
    text = (DOCS / page).read_text(encoding="utf-8")
    _, found, rest = text.partition(f"<!-- {marker} -->\n")
    assert found, f"docs/{page} has no table marked `<!-- {marker} -->`"
    lines = rest.strip().split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    names = [row[0].strip("`") for row in rows]
    assert len(set(names)) == len(names), f"docs/{page}, {marker}: a name appears twice"
    return dict(zip(names, (row[1:] for row in rows), strict=True))
