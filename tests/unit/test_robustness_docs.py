"""The guide names every column of the robustness study, with its type."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import pytest

from glossogenesis.corpora.posts import POSTS_SCHEMA
from glossogenesis.robustness import cues as cue_rows
from glossogenesis.robustness import label_tables
from glossogenesis.robustness.ablation import ABLATIONS_SCHEMA
from glossogenesis.robustness.circuit import CIRCUIT_SCHEMA
from glossogenesis.robustness.components.effects import EFFECTS_SCHEMA
from glossogenesis.robustness.finetuning import TRAINING_SCHEMA
from glossogenesis.robustness.knockout.sets import KNOCKOUT_SCHEMA
from glossogenesis.robustness.pairs import PAIRS_SCHEMA
from glossogenesis.robustness.spellings import SURVIVAL_SCHEMA
from glossogenesis.robustness.tables import circuit, classification, comparisons, features
from glossogenesis.robustness.tables.inputs import MEASURED, MODEL_FACTS
from support.guide import DOCS, table_below

PAGE = "robustness_artifacts.md"

ARTIFACTS = {
    "POSTS_SCHEMA": POSTS_SCHEMA,
    "classifier TRAINING_SCHEMA": TRAINING_SCHEMA,
    "PAIRS_SCHEMA": PAIRS_SCHEMA,
    "EFFECTS_SCHEMA": EFFECTS_SCHEMA,
    "CIRCUIT_SCHEMA": CIRCUIT_SCHEMA,
    "ABLATIONS_SCHEMA": ABLATIONS_SCHEMA,
    "LABELS_SCHEMA": label_tables.LABELS_SCHEMA,
    "classifier FEATURES_SCHEMA": label_tables.FEATURES_SCHEMA,
    "POST_FEATURES_SCHEMA": label_tables.POST_FEATURES_SCHEMA,
    "CUES_SCHEMA": cue_rows.CUES_SCHEMA,
    "KNOCKOUT_SCHEMA": KNOCKOUT_SCHEMA,
    "SURVIVAL_SCHEMA": SURVIVAL_SCHEMA,
    "COMPARISONS_SCHEMA": comparisons.COMPARISONS_SCHEMA,
}
FACTS = {**MODEL_FACTS, **MEASURED}
TABLES = {
    "CLASSIFICATION_SCHEMA": classification.CLASSIFICATION_SCHEMA,
    "CIRCUIT_TABLE_SCHEMA": circuit.CIRCUIT_TABLE_SCHEMA,
    "robustness FEATURES_SCHEMA": features.FEATURES_SCHEMA,
    "KNOCKOUT_TABLE_SCHEMA": classification.KNOCKOUT_TABLE_SCHEMA,
    "robustness CUES_SCHEMA": features.CUES_SCHEMA,
    "VARIANTS_SCHEMA": features.VARIANTS_SCHEMA,
}


def documented(marker: str) -> dict[str, str]:
    return {name: row[0] for name, row in table_below(PAGE, f"columns: {marker}").items()}


def types_of(schema: Mapping[str, object]) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in schema.items()}


@pytest.mark.parametrize("marker", ARTIFACTS)
def test_every_column_of_an_artifact_is_in_the_guide(marker: str) -> None:
    assert documented(marker) == types_of(ARTIFACTS[marker])


@pytest.mark.parametrize("marker", TABLES)
def test_every_column_of_a_table_is_in_the_guide(marker: str) -> None:
    shared = documented("facts of robustness tables")
    assert shared == types_of(FACTS)
    assert {**shared, **documented(marker)} == types_of(pl.Schema(TABLES[marker]))


def test_every_condition_measure_and_arm_is_explained() -> None:
    methods = (DOCS / "robustness_methods.md").read_text(encoding="utf-8")
    for word in ("random", "frequency", "other", "mean", "zero", "resample", "sentence", "carrier"):
        assert f"`{word}`" in methods, word
