"""Inspect a path, or plan a study, and lay out what was found for a terminal or a text file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from glossogenesis.exceptions import StudyError
from glossogenesis.inspection.content import Inspection, Section, size_in_words
from glossogenesis.inspection.describe import (
    describe_checkpoint,
    describe_delimited,
    describe_folder,
    describe_json,
    describe_parquet,
    describe_tensors,
)
from glossogenesis.workflow.plan import Plan, RulePlan
from glossogenesis.workflow.registry import CACHES

CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

AFTER_USE = "`glossogenesis purge` frees them after use"

HEADERS = ("rule", "jobs", "of", "a job", "all jobs", "GPU hours", "disk", "memory")


def inspect_path(path: Path, rows: int = 5) -> Inspection:
    """Describe a file or folder, with the first `rows` rows of a table.

    StudyError where it is missing, damaged, or of no kind that can be shown.
    """
    readers: dict[str, Callable[[], Inspection]] = {
        ".parquet": lambda: describe_parquet(path, rows),
        ".csv": lambda: describe_delimited(path, rows),
        ".tsv": lambda: describe_delimited(path, rows),
        ".safetensors": lambda: describe_tensors(path),
        ".json": lambda: describe_json(path),
    }
    try:
        if (path / "config.json").is_file():
            return describe_checkpoint(path)
        if path.is_dir():
            return describe_folder(path)
        if not path.exists():
            raise StudyError(f"{path}: no such file or folder")
        if path.suffix not in readers:
            raise StudyError(
                f"{path}: not a kind of file that can be shown; give a folder, or a file that ends "
                f"in {', '.join(readers)}"
            )
        return readers[path.suffix]()
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror or error})") from None


def lay_out(inspection: Inspection, width: int) -> Group:
    """Return what a rich console of `width` columns prints; no value is cut."""
    title = Text(visible(str(inspection.path)), style="bold", overflow="fold")
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="cyan", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in (("kind", inspection.kind), *inspection.facts):
        facts.add_row(name, Text(visible(value)))
    parts: list[RenderableType] = [title, facts]
    for section in inspection.sections:
        parts += [Text(), Text(section.title, style="bold"), *_lay_out_section(section, width)]
    return Group(*parts)


def visible(text: str) -> str:
    """Return a text whose controls, which a terminal would obey, are shown as escapes.

    So are halves of surrogate pairs, which no terminal can print; breaks of lines stay.
    """
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def _lay_out_section(section: Section, width: int) -> Iterator[RenderableType]:
    if not section.headers:
        yield Text(visible(section.text), overflow="fold")
        return
    rows = [tuple(map(visible, row)) for row in section.rows]
    shown = replace(section, headers=tuple(map(visible, section.headers)), rows=tuple(rows))
    if section.records and _table_width(shown) > width:
        yield from _records(shown)
    else:
        yield table(shown.headers, shown.rows)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a plain table; columns of numbers stand to the right."""
    laid_out = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="cyan")
    for place, header in enumerate(headers):
        numeric = bool(rows) and all(_is_number(row[place]) for row in rows)
        laid_out.add_column(Text(header), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        laid_out.add_row(*(Text(value) for value in row))
    return laid_out


def _table_width(section: Section) -> int:
    columns = zip(section.headers, *section.rows, strict=True)
    return sum(max(cell_len(value) for value in column) + 2 for column in columns)


def _records(section: Section) -> Iterator[RenderableType]:
    """Lay out each row below the one before, one line per column."""
    for number, row in enumerate(section.rows):
        yield Text(f"row {number}", style="dim")
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="cyan", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in zip(section.headers, row, strict=True):
            grid.add_row(Text(f"  {name}"), Text(value))
        yield grid


def _is_number(value: str) -> bool:
    return value.replace(",", "").replace(".", "").replace("-", "").replace("e", "").isdigit()


def plan_page(study: str, plan: Plan, assumptions: Sequence[str], warnings: Sequence[str]) -> Group:
    """Return what a rich console prints: one row per rule, totals, largest numbers, assumptions."""
    if plan.pending == 0:
        return Group(Text(f"Study {study}: everything is there, no job is left to run."))
    parts: list[RenderableType] = [
        Text(f"Study {study}, jobs to run: {plan.pending:,}", style="bold"),
        Text(),
        table(HEADERS, [*(_row(rule) for rule in plan.rules), _totals(plan)]),
        Text(),
        *(Text(line) for line in _largest(plan)),
        Text(),
        Text("This estimate is rough, and assumes:", style="bold"),
        *(Text(f"- {line}") for line in assumptions),
    ]
    parts += [Text(f"Warning: {line}", style="bold red") for line in warnings]
    return Group(*parts)


def time_in_words(hours: float) -> str:
    """Return hours as, for example, `12 s`, `4 min` or `3.5 h`."""
    if hours * 3600 < 100:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours * 60 < 100 else f"{hours:,.1f} h"


def _row(rule: RulePlan) -> tuple[str, ...]:
    if rule.pending == 0:
        return (rule.rule, "0", f"{rule.total:,}", "", "", "", "", "")
    return (
        rule.rule,
        f"{rule.pending:,}",
        f"{rule.total:,}",
        time_in_words(rule.hours / rule.pending),
        time_in_words(rule.hours),
        f"{rule.gpu_hours:,.1f}",
        size_in_words(rule.results_bytes + rule.download_bytes),
        size_in_words(rule.memory_mb * 1e6),
    )


def _totals(plan: Plan) -> tuple[str, ...]:
    return (
        "total",
        f"{plan.pending:,}",
        f"{sum(rule.total for rule in plan.rules):,}",
        "",
        time_in_words(sum(rule.hours for rule in plan.rules)),
        f"{plan.gpu_hours:,.1f}",
        size_in_words(plan.results_bytes + plan.download_bytes),
        "",
    )


def _largest(plan: Plan) -> list[str]:
    """Return the totals that decide where a study can run, and the largest single numbers."""
    caches = sum(rule.results_bytes for rule in plan.rules if rule.rule in CACHES)
    longest = max(plan.rules, key=lambda rule: rule.longest_hours)
    largest = max(plan.rules, key=lambda rule: rule.memory_mb)
    return [
        f"GPU hours {plan.gpu_hours:,.1f}, hours without a GPU {plan.cpu_hours:,.1f}",
        f"disk {size_in_words(plan.results_bytes)} of results, "
        f"{size_in_words(plan.download_bytes)} of downloads",
        *([f"activation caches {size_in_words(caches)} of it; {AFTER_USE}"] if caches else []),
        f"longest job {time_in_words(longest.longest_hours)} ({longest.rule}), "
        f"largest memory {size_in_words(largest.memory_mb * 1e6)} ({largest.rule})",
    ]
