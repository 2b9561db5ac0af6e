"""The tables of the user guide, printed from settings and schemas: `make docs`.

On a page, the table of a section's keys stands between `<!-- keys: NAME -->` and `<!-- end -->`,
that of an artifact's columns between `<!-- columns: NAME -->` and `<!-- end -->`; what is outside
is written by hand. `docs/PAGE.md#heading` in a meaning becomes a link.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import polars as pl
import yaml
from polars.datatypes import DataTypeClass

from glossogenesis.exceptions import StudyError
from glossogenesis.inspection.columns import MEANINGS_FILE, table_meanings
from glossogenesis.storage.files import write_text
from glossogenesis.study.schema import SCHEMA_FILE, schema_text, study_schema
from glossogenesis.study.sheet import Checkpoint

JsonSchema = dict[str, Any]

DOCS = Path(__file__).parents[3] / "docs"

MARKED = re.compile(r"(<!-- (keys|columns): (.+?) -->\n)(?:(?!<!--).)*(<!-- end -->)", re.DOTALL)
REFERENCE = re.compile(r"\bdocs/(\w+\.md)(#[\w-]+)?")

LANGUAGES = ("en", "ru")
"""Of tables that have a number for each language."""


def renewed(text: str, page: str) -> str:
    """Return a page with its tables as settings and schemas have them now.

    StudyError where a key or column has no meaning, or a meaning has no column.
    """

    def table(found: re.Match[str]) -> str:
        begin, kind, name, end = found.groups()
        lines = key_table(name, sections()[name]) if kind == "keys" else column_table(name)
        return begin + "\n" + "\n".join(_with_links(lines, page)) + "\n\n" + end

    return MARKED.sub(table, text)


@cache
def sections() -> Mapping[str, JsonSchema]:
    """Return every section of a study, and the row of a checkpoint sheet, by name."""
    study = study_schema()
    own = {"StudySettings": study, "Checkpoint": Checkpoint.model_json_schema()}
    return {**study["$defs"], **own}


def key_table(name: str, section: JsonSchema) -> list[str]:
    """Return the lines of a table of keys: their defaults, meanings and choices."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key, facts in section["properties"].items():
        part = sections()[facts["$ref"].removeprefix("#/$defs/")] if "$ref" in facts else {}
        meaning = " ".join({**part, **facts}.get("description", "").split())
        if not meaning:
            raise StudyError(f"{name}.{key}: write its meaning below the field")
        if key in section.get("required", ()):
            default = "*required*"
        else:
            default = "see below" if part else _in_yaml(facts["default"])
        lines.append(f"| `{key}` | {default} | {meaning}{_choices(facts, meaning)} |")
    return lines


def _in_yaml(value: object) -> str:
    if isinstance(value, str) and not value.isprintable():
        return f"`{json.dumps(value)}`"
    written = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000)
    written = written.removesuffix("...\n").strip()
    return f"`{written}`"


def _choices(facts: JsonSchema, meaning: str) -> str:
    """Return the values that a key may have, where its meaning does not name them."""
    choices = [f"`{choice}`" for choice in facts.get("enum", [facts.get("const", "")]) if choice]
    if all(choice in meaning for choice in choices):
        return ""
    return f" {'One of' if len(choices) > 1 else 'Write'} {', '.join(choices)}."


def column_table(name: str) -> list[str]:
    """Return the lines of a table of columns: their types and meanings."""
    table = table_meanings()[name]
    schema = schema_at(table.schema)
    shared = table_meanings()[table.shared].columns if table.shared else {}
    for column in {**schema, **table.columns}:
        if column not in schema:
            raise StudyError(f"{MEANINGS_FILE}: {name} has no column {column!r}; remove it")
        if column not in table.columns and column not in shared:
            raise StudyError(f"{MEANINGS_FILE}: say what column {column!r} of {name} means")
    lines = ["| column | type | meaning |", "|---|---|---|"]
    for column, dtype in schema.items():
        if column in table.columns:
            meaning = table.columns[column].replace("|", "\\|")
            lines.append(f"| `{column}` | {_type(dtype)} | {meaning} |")
    return lines


def schema_at(place: str) -> pl.Schema:
    """Return the schema that the library has at a place such as `features.schemas.NAME`.

    It may also be a function of languages, or a dataclass of which a row is made.
    """
    module, _, name = place.rpartition(".")
    found: Any = getattr(import_module(f"glossogenesis.{module}"), name)
    if is_dataclass(found):
        return pl.Schema(get_type_hints(found))
    schema: Mapping[str, pl.DataType] = found(LANGUAGES) if callable(found) else found
    return pl.Schema(schema)


def _type(dtype: pl.DataType | DataTypeClass) -> str:
    """Return a type's name; a struct whose fields are all of one type is named after that."""
    if isinstance(dtype, pl.List):
        return f"List({_type(dtype.inner)})"
    if isinstance(dtype, pl.Struct):
        types = {str(field.dtype) for field in dtype.fields}
        return f"Struct({types.pop()})" if len(types) == 1 else "Struct"
    return str(dtype)


def _with_links(lines: Iterable[str], page: str) -> Iterator[str]:
    """Put links in the place of references to other pages, and to headings of this one."""
    for line in lines:
        yield REFERENCE.sub(
            lambda found: (
                f"[below]({found[2]})"
                if found[1] == page
                else f"[{found[1]}]({found[1]}{found[2] or ''})"
            ),
            line,
        )


def main() -> None:
    """Renew the schema of study files, and the tables of every page."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
    new = {path: renewed(text, path.name) for path, text in pages.items()}
    for path, text in {**new, SCHEMA_FILE: schema_text()}.items():
        if path.read_text(encoding="utf-8") != text:
            write_text(path, text)
            print(path)


if __name__ == "__main__":
    main()
