"""The configuration of a checkpoint, as its folder has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a checkpoint.

    Raises:
        StudyError: it is missing or is not a JSON object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: missing; a checkpoint folder needs its config.json") from None
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path}: not readable as JSON ({error}); save it again") from None
    if not isinstance(config, dict):
        raise StudyError(f"{path}: not a JSON object; save it again")
    return config
