"""The user guide names every key, column and artifact that there is, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import get_args

import polars as pl
import pytest
import yaml

from glossogenesis import __version__
from glossogenesis.concepts.comparisons import COMPARISON_SCHEMA, TRAININGS_SCHEMA
from glossogenesis.concepts.prompts import PROMPTS_SCHEMA
from glossogenesis.concepts.scoring import OUTCOMES, PATCHING_SCHEMA, SETTINGS
from glossogenesis.concepts.tables import (
    accuracy_table,
    outcomes_table,
    pooled_table,
    probability_table,
)
from glossogenesis.inspection.content import KINDS
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.pretraining.training import TrainedStep
from glossogenesis.storage.provenance import Provenance
from glossogenesis.study import concepts, features, inputs, pretrain, robustness, sheet, study
from glossogenesis.study.section import Section
from glossogenesis.study.setups import CHECKPOINT_FACTS, with_checkpoint
from support.guide import DOCS, REPOSITORY, table_below

PAGES = [*sorted(DOCS.glob("*.md")), REPOSITORY / "results" / "README.md", REPOSITORY / "README.md"]

PAGE_OF_MODULE = {
    **dict.fromkeys((concepts, inputs, pretrain, sheet, study), "study.md"),
    features: "study_features.md",
    robustness: "study_robustness.md",
}
OTHER_PAGES = {
    "HubSettings": "hub.md",
    **dict.fromkeys(
        ("CorpusFiles", "CorpusHub", "CorpusDemo", "CorpusSettings"), "study_features.md"
    ),
}
# SaeSettings is what a study has; SaeTraining, a part of it, is what a job is given.
LEFT_OUT = (Section, features.SaeTraining)

SECTIONS = {
    section.__name__: section
    for module in PAGE_OF_MODULE
    for section in vars(module).values()
    if isinstance(section, type) and issubclass(section, Section) and section not in LEFT_OUT
}
PAGE = {
    section.__name__: page
    for module, page in PAGE_OF_MODULE.items()
    for section in vars(module).values()
    if isinstance(section, type) and section.__module__ == module.__name__
} | OTHER_PAGES

KEYS = [
    *CHECKPOINT_FACTS,
    *("setting", "input_language", "output_language", "start_layer", "chosen_layers"),
]


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_of_a_study_is_in_the_guide_with_its_default(name: str):
    fields = SECTIONS[name].model_fields
    rows = table_below(PAGE[name], f"keys: {name}")
    assert list(rows) == list(fields), f"docs/{PAGE[name]}, table of {name}"
    for key, field in fields.items():
        written, meaning = rows[key][0], rows[key][1]
        assert meaning or key == "kind", f"{name}.{key} has no meaning in docs/{PAGE[name]}"
        default = field.get_default(call_default_factory=True)
        if field.is_required():
            assert written == "*required*", f"{name}.{key}"
        elif isinstance(default, Section):
            assert written == "see below", f"{name}.{key}"
        else:
            plain = json.loads(json.dumps(default, default=lambda part: part.model_dump()))
            assert yaml.safe_load(written.strip("`")) == plain, f"{name}.{key}"


def test_every_choice_of_a_key_is_in_the_guide():
    for name, section in SECTIONS.items():
        guide = (DOCS / PAGE[name]).read_text(encoding="utf-8")
        for key, field in section.model_fields.items():
            for choice in get_args(field.annotation):
                if isinstance(choice, str):
                    assert f"`{choice}`" in guide, f"{name}.{key}: {choice}"


@pytest.mark.parametrize(
    ("marker", "schema"),
    [
        ("PROMPTS_SCHEMA", PROMPTS_SCHEMA),
        ("PATCHING_SCHEMA", PATCHING_SCHEMA),
        ("COMPARISON_SCHEMA", COMPARISON_SCHEMA),
        ("TRAININGS_SCHEMA", TRAININGS_SCHEMA),
    ],
)
def test_every_column_of_an_artifact_is_in_the_guide(marker: str, schema: pl.Schema):
    rows = table_below("artifacts.md", f"columns: {marker}")
    assert {name: row[0] for name, row in rows.items()} == {
        name: str(dtype) for name, dtype in schema.items()
    }


def one_answer() -> pl.DataFrame:
    """The rows of a checkpoint with a single answer."""
    facts = pl.DataFrame([{"model": "m", "checkpoint": "c", "step": 1}], schema=CHECKPOINT_FACTS)
    answer = {
        "item": 0, "setting": "tgt", "input_language": "es", "output_language": "en",
        "start_layer": 0, "source_concept": "cat", "target_concept": "dog",
        "expected_concept": "cat", "answer": "cat", "correct": True, "outcome": "correct",
        "copyable": False, "log_p_source": -1.0, "log_p_target": -2.0, "log_p_expected": -1.0,
    }  # fmt: skip
    return with_checkpoint(pl.DataFrame([answer], schema=PATCHING_SCHEMA), facts)


def columns_of(table: pl.DataFrame) -> dict[str, str]:
    return {name: re.sub(r"Enum\(.*", "String", str(d)) for name, d in table.schema.items()}


@pytest.mark.parametrize("table", [accuracy_table, outcomes_table, probability_table])
def test_every_column_of_a_table_is_in_the_guide(table):
    keys = table_below("artifacts.md", "columns: keys of tables")
    own = table_below("artifacts.md", f"columns: {table.__name__}")
    assert list(keys) == KEYS
    documented = {name: row[0] for name, row in {**keys, **own}.items()}
    assert documented == columns_of(table(one_answer()))


def test_every_column_of_the_pooled_table_is_in_the_guide():
    rows = table_below("artifacts.md", "columns: pooled_table")
    documented = {name: row[0] for name, row in rows.items()}
    assert documented == columns_of(pooled_table(one_answer(), "en", ["sw"]))


@pytest.mark.parametrize("kind", [Provenance, CheckpointManifest, TrainedStep])
def test_every_field_of_provenance_manifests_and_logs_is_in_the_guide(kind: type):
    rows = table_below("artifacts.md", f"columns: {kind.__name__}")
    assert set(rows) == {field.name for field in dataclasses.fields(kind)}


def test_every_setting_and_outcome_is_explained():
    methods = (DOCS / "methods.md").read_text(encoding="utf-8")
    for name in (*SETTINGS, *OUTCOMES):
        assert f"`{name}`" in methods, name


def test_map_of_results_uses_the_words_of_inspect():
    page = (REPOSITORY / "results" / "README.md").read_text(encoding="utf-8")
    for words in KINDS.values():
        assert words in page, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, heading = target.partition("#")
        linked = (page.parent / file) if file else page
        if page.name == "README.md" and linked.suffix == ".svg":
            continue
        assert linked.exists(), f"{page.name} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}
            assert heading in slugs, f"{page.name} links to {target}"


def test_yaml_and_json_examples_can_be_read():
    for page in PAGES:
        for example in re.findall(r"```yaml\n(.+?)```", page.read_text("utf-8"), re.S):
            assert isinstance(yaml.safe_load(example), dict), page.name


def test_citation_and_changelog_name_the_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == "MIT"
    assert f"[{__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
