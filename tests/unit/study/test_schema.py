"""The JSON schema that ships: in step with the settings, and true of the studies that ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from glossogenesis.study.schema import SCHEMA_FILE, schema_text, study_schema

REPOSITORY = Path(__file__).parents[3]
STUDIES = [REPOSITORY / "config.yaml", *sorted((REPOSITORY / "resources/studies").glob("*.yaml"))]


def test_the_file_is_in_step() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run `make docs`"


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_shipped_studies_fit_and_name_it(study: Path) -> None:
    text = study.read_text(encoding="utf-8")
    jsonschema.validate(as_json(yaml.safe_load(text)), study_schema())
    first = text.splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (study.parent / first.partition("=")[2]).resolve() == SCHEMA_FILE


def test_unknown_keys_do_not_fit() -> None:
    content = as_json(yaml.safe_load(STUDIES[0].read_text(encoding="utf-8")))
    with pytest.raises(jsonschema.ValidationError, match="colour"):
        jsonschema.validate(content | {"colour": "red"}, study_schema())


def as_json(content: Any) -> Any:
    """YAML's numeric keys are texts in JSON."""
    return json.loads(json.dumps(content))
