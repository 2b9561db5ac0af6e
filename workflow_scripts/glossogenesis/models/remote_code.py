"""Code that a repository of a model brings along: run only where the study names the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError

_CONFIGS = ("config.json", "tokenizer_config.json")


def may_run_code(folder: Path, remote_code: str | None) -> bool:
    """Tell whether a checkpoint may run code of its own repository.

    StudyError where it may, but its configuration takes code from yet another repository.
    """
    if remote_code is None:
        return False
    for name, reference in code_references(folder):
        # `repository--module.Class` would be fetched anew, from wherever that is by now.
        if "--" in reference:
            raise StudyError(
                f"{folder / name}: takes code from another place ({reference}) than its own "
                f"files, and the study allows {remote_code} alone; use another model"
            )
    return True


def how_to_allow_code(folder: Path) -> str:
    """Return how to allow the code that a checkpoint names, nothing where it names none."""
    found = sorted({reference for _, reference in code_references(folder)})
    if not found:
        return ""
    return (
        f"; it names code of its own repository ({', '.join(found[:3])}), which is only run where "
        "`models.NAME.remote_code` names the repository and the sheet a full commit"
    )


def code_references(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the classes of foreign code that a checkpoint's configurations name, and where."""
    for name in _CONFIGS:
        try:
            content: Any = json.loads((folder / name).read_text(encoding="utf-8"))
            named = content.get("auto_map", {})
        except (OSError, ValueError, AttributeError):
            # Whoever reads these files next says what is wrong with them.
            continue
        values = named.values() if isinstance(named, dict) else [named]
        for value in values:
            references = value if isinstance(value, list) else [value]
            yield from ((name, reference) for reference in references if isinstance(reference, str))
