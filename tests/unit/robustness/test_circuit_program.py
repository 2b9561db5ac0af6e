"""The program that ablates circuits, from files to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from transformers import PreTrainedTokenizerFast

import ablate_circuit
from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.ablation import ABLATIONS_SCHEMA
from glossogenesis.robustness.circuit import CIRCUIT_SCHEMA
from glossogenesis.storage import tables
from glossogenesis.storage.provenance import Provenance
from support.program_runs import ON_CPU, run_main
from support.tiny_checkpoint import write_manifest
from support.tiny_classifiers import tiny_classifier
from support.tiny_posts import labelled_rows, random_token_ids, write_posts, write_tokenised_posts
from support.tiny_tokenizers import word_level

LABELS = ("a", "b", "c", "d", "e")
ORIGIN = Provenance(kind="test", study="test", settings={}, inputs={}, code="0")

SETTINGS: dict[str, Any] = {
    "circuit": {"thresholds": [0.1, 0.5], "random_draws": 2, "reference_posts": 8},
    "outputs": "added",
    "dtype": "float32",
    "resamples": 100,
    "seed": 0,
}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """A classifier with posts, and effects that name MLP 1 and, at 0.1, attention 0 too."""
    folder = tmp_path / "classifier"
    model: Any = tiny_classifier("llama").model
    model.config.id2label = dict(enumerate(LABELS))
    model.save_pretrained(folder)
    tokenizer = word_level(["a b c"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    manifest = write_manifest(tmp_path / "manifest.json", folder, source="classifier")
    corpus = write_tokenised_posts(
        tmp_path / "corpus",
        {"train": random_token_ids(20), "held_out": random_token_ids(15, seed=1)},
        tokenizer_digest=manifest.tokenizer_digest,
    )
    effects = pl.DataFrame(
        [
            {
                "set": "own",
                "pair": pair,
                "layer": layer,
                "component": component,
                "effect": {(1, "mlp"): 1.0, (0, "attention"): 0.25}.get((layer, component), 0.0),
            }
            for pair in range(3)
            for layer in range(4)
            for component in ("attention", "mlp")
        ],
        schema_overrides={"pair": pl.Int32, "layer": pl.Int16, "effect": pl.Float32},
    )
    tables.write_table(tmp_path / "effects.parquet", effects, ORIGIN)
    return {
        "classifier": tmp_path / "manifest.json",
        "corpus": corpus.folder / "manifest.json",
        "posts": write_posts(tmp_path, labelled_rows(LABELS)),
        "effects": tmp_path / "effects.parquet",
    }


def ablate(inputs: dict[str, Path], folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    written = {"circuit": folder / "circuit.parquet", "output": folder / "ablations.parquet"}
    run_main(ablate_circuit, SETTINGS, batch_size=4, **ON_CPU, **inputs, **written)
    circuit, ablations = (tables.read_table(path) for path in written.values())
    return circuit, ablations


def test_ablate_circuit(tmp_path: Path, inputs: dict[str, Path]) -> None:
    circuit, ablations = ablate(inputs, tmp_path / "a")
    assert circuit.schema == CIRCUIT_SCHEMA
    assert ablations.schema == ABLATIONS_SCHEMA
    members = circuit.filter("in_circuit")["threshold", "layer", "component"].rows()
    assert members == [
        (pytest.approx(0.1), 0, "attention"),
        (pytest.approx(0.1), 1, "mlp"),
        (0.5, 1, "mlp"),
    ]
    # Two thresholds, two measures, three methods; the circuit, two random ones, all and none.
    assert ablations.height == 2 * 2 * 3 * 5
    sizes = ablations.group_by("threshold", "circuit", maintain_order=True).agg(
        pl.col("size").unique()
    )
    assert sizes["size"].to_list() == [[2], [2], [8], [0], [1], [1], [8], [0]]
    assert ablations["n"].unique().to_list() == [15]
    whole = ablations.filter(circuit="all", measure="sufficiency")
    assert whole["correct"].equals(whole["correct_full"])
    lost_and_won = pl.col("correct_full") - pl.col("lost") + pl.col("gained")
    assert ablations.filter(pl.col("correct") != lost_and_won).is_empty()
    assert not ablations.filter(pl.col("lost") > 0).is_empty()
    ablate(inputs, tmp_path / "b")
    for name in ("circuit.parquet", "ablations.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        made = tables.read_provenance(tmp_path / "a" / name)
        assert (made.model, made.checkpoint, made.dtype) == ("tiny", "step1", "float32")
        assert sorted(made.inputs) == ["classifier", "corpus", "effects", "posts"]


def test_no_effects_of_a_classifier_at_chance(tmp_path: Path, inputs: dict[str, Path]) -> None:
    empty = tables.read_table(inputs["effects"]).clear()
    tables.write_table(inputs["effects"], empty, ORIGIN)
    circuit, ablations = ablate(inputs, tmp_path / "a")
    assert circuit.equals(pl.DataFrame(schema=CIRCUIT_SCHEMA))
    assert ablations.equals(pl.DataFrame(schema=ABLATIONS_SCHEMA))


def test_a_classifier_of_other_labels(tmp_path: Path, inputs: dict[str, Path]) -> None:
    other = write_posts(tmp_path / "other", labelled_rows(("a", "b", "c", "d", "x")))
    with pytest.raises(StudyError, match="knows other labels than"):
        ablate(inputs | {"posts": other}, tmp_path / "a")
    assert not (tmp_path / "a").exists()
