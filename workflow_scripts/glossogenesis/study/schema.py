"""The JSON schema of a study file, by which editors complete keys and mark mistakes.

`make docs` writes it to `resources/study.schema.json`; a study names it in its first line:
`# yaml-language-server: $schema=...`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from glossogenesis.study.study import StudySettings

SCHEMA_FILE = Path(__file__).parents[3] / "resources" / "study.schema.json"


def study_schema() -> dict[str, Any]:
    """Return the schema of a study file, with the meaning of each key as its description."""
    schema = StudySettings.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(study_schema(), ensure_ascii=False, indent=2, sort_keys=True) + "\n"
