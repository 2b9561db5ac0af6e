"""The one style of all figures, and how they are saved.

Widths are those of a printed page; no text is smaller than 7 pt at that size. Colour-blind
readers can distinguish the colours (Okabe and Ito 2008, then Tol's muted scheme), which never carry
a meaning alone: markers, line styles or hatches repeat it, so that a figure reads in grey.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import polars as pl
import seaborn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from glossogenesis.storage.files import sealed_path
from glossogenesis.storage.provenance import NUMBERS_DIGEST, file_digest, sealed_json
from glossogenesis.storage.tables import write_csv

COLUMN_WIDTH = 3.4
PAGE_WIDTH = 7.0
"""Inches."""

FONT_SIZE = 7.0
"""Points; the smallest text of a figure."""

INK = "#222222"
FAINT = "#888888"

PALETTE = (
    "#0072B2",  # blue
    "#D55E00",  # vermilion
    "#009E73",  # green
    "#CC79A7",  # pink
    "#E69F00",  # orange
    "#332288",  # indigo
    "#56B4E9",  # sky blue
    "#882255",  # wine
    "#999933",  # olive
    "#000000",  # black
    "#AA4499",  # purple
    "#777777",  # grey
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
LINE_STYLES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))

# The font ships with matplotlib, so that the layout is the same everywhere; it has no East Asian
# glyphs, which is why languages are labelled by their codes.
_FONT = "DejaVu Sans"


@dataclass(frozen=True)
class Look:
    """How one series is drawn: colour, marker and whether the marker is filled."""

    colour: str
    marker: str
    filled: bool

    def marker_options(self) -> dict[str, Any]:
        """Options of `Axes.plot` for colour and marker."""
        face = self.colour if self.filled else "white"
        return {
            "color": self.colour,
            "marker": self.marker,
            "markerfacecolor": face,
            "markeredgecolor": self.colour,
        }


def look_of(place: int) -> Look:
    """The look of the series at `place`, counted from 0; beyond twelve, markers become hollow."""
    kinds = len(PALETTE)
    return Look(PALETTE[place % kinds], MARKERS[place % kinds], filled=place < kinds)


@contextmanager
def paper_style() -> Iterator[None]:
    """Apply the style within the block; nothing of it remains outside."""
    settings: Any = {
        **seaborn.axes_style("ticks"),
        "font.family": "sans-serif",
        "font.sans-serif": [_FONT],
        "font.size": FONT_SIZE,
        "axes.titlesize": FONT_SIZE + 0.5,
        "axes.titleweight": "normal",
        "axes.labelsize": FONT_SIZE,
        "xtick.labelsize": FONT_SIZE,
        "ytick.labelsize": FONT_SIZE,
        "legend.fontsize": FONT_SIZE,
        "legend.title_fontsize": FONT_SIZE,
        "legend.frameon": False,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.minor.width": 0.4,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "xtick.minor.size": 1.5,
        "lines.linewidth": 1.1,
        "lines.markersize": 3.2,
        "lines.markeredgewidth": 0.7,
        "hatch.linewidth": 0.5,
        # Labels are a user's, who may write `$` in them.
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "glossogenesis",
        "pdf.fonttype": 42,
    }
    with matplotlib.rc_context(settings):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, laid out so that nothing overlaps or is cut off."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, stem: Path | str, data: pl.DataFrame) -> None:
    """Write `stem`.svg, `stem`.pdf and, as `stem`.csv, the numbers in the figure; each atomically.

    Equal figures give equal bytes: no date, and fixed identifiers. Both pictures carry a seal and
    the digest of the numbers, which have no room for one.
    """
    write_csv(f"{stem}.csv", data)
    sealed = sealed_json({NUMBERS_DIGEST: file_digest(f"{stem}.csv")})
    with paper_style():
        for extension, metadata in (
            ("svg", {"Date": None, "Description": sealed}),
            ("pdf", {"CreationDate": None, "Subject": sealed}),
        ):
            with sealed_path(f"{stem}.{extension}") as temporary:
                figure.savefig(temporary, format=extension, metadata=metadata)
                if extension == "svg":
                    written = Path(temporary)
                    text = written.read_text(encoding="utf-8")
                    written.write_text(_with_numbered_ids(text), encoding="utf-8")


def _with_numbered_ids(svg: str) -> str:
    """Number what matplotlib names by digests of coordinates.

    The solver behind constrained layout leaves their last bits to the order of objects in memory,
    which no printed coordinate shows, but a digest does.
    """
    found = dict.fromkeys(re.findall(r'id="([a-z][0-9a-f]{10})"', svg))
    names = {name: f"{name[0]}_{number}" for number, name in enumerate(found)}
    return re.sub(r"\b[a-z][0-9a-f]{10}\b", lambda name: names.get(name[0], name[0]), svg)
