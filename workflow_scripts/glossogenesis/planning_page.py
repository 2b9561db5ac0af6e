"""Lay out a plan for a terminal or a text file."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from glossogenesis.inspection.content import size_in_words
from glossogenesis.inspection.page import table
from glossogenesis.workflow.plan import Plan, RulePlan

AFTER_USE = "`glossogenesis purge` frees them after use"

CACHES = ("extract_activations", "extract_post_activations")
"""Rules that write activation caches."""

HEADERS = ("rule", "jobs", "of", "a job", "all jobs", "GPU hours", "disk", "memory")


def lay_out(study: str, plan: Plan, assumptions: Sequence[str], warnings: Sequence[str]) -> Group:
    """Return what a rich console prints: a row a rule, totals, largest numbers, assumptions."""
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
