"""The program that patches components, from files to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import patch_components
from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.components.effects import EFFECTS_SCHEMA
from glossogenesis.robustness.pairs import PAIRS_SCHEMA
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tables import read_provenance, read_table, write_table
from support.program_runs import ON_CPU, run_main
from support.tiny_checkpoint import save_tiny_checkpoint, write_manifest
from support.tiny_classifiers import tiny_classifier
from support.tiny_posts import random_token_ids, write_tokenised_posts

LABELS = ("cars", "cooking", "pets", "plants", "work")
ROWS = [
    ("own", 0, 3, 1, "cooking", "cars", 0.9),
    ("own", 1, 0, 4, "cars", "pets", 0.85),
    ("common", 0, 0, 4, "cars", "pets", 0.85),
]
ORIGIN = Provenance(kind="pairs", study="test", settings={}, inputs={}, code="0")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A classifier of five labels, six held-out posts and pairs of them."""
    folder = tmp_path_factory.mktemp("inputs")
    weights = save_tiny_checkpoint(folder / "weights")
    model: Any = tiny_classifier("llama").model
    model.config.id2label = dict(enumerate(LABELS))
    model.config.label2id = {label: number for number, label in enumerate(LABELS)}
    model.save_pretrained(weights)
    manifest = write_manifest(folder / "classifier.json", weights, source="classifier")
    write_tokenised_posts(
        folder / "posts",
        {"train": random_token_ids(2), "held_out": random_token_ids(6, seed=1)},
        tokenizer_digest=manifest.tokenizer_digest,
    )
    return {
        "classifier": folder / "classifier.json",
        "corpus": folder / "posts" / "manifest.json",
        "pairs": write_pairs(folder, ROWS),
    }


def write_pairs(folder: Path, rows: list[Any]) -> Path:
    path = folder / "pairs.parquet"
    write_table(path, pl.DataFrame(rows, schema=PAIRS_SCHEMA, orient="row"), ORIGIN)
    return path


@pytest.fixture
def patch(inputs: dict[str, Path], tmp_path: Path) -> Any:
    """Runs the program and returns its table; `mode` and `pairs` may be others."""

    def run(mode: str = "fast", **changed: Path) -> pl.DataFrame:
        settings = {"components": {"mode": mode, "outputs": "added"}, "dtype": "float32"}
        output = tmp_path / "effects.parquet"
        options = {**inputs, **changed, **ON_CPU, "batch_size": 4, "output": output}
        run_main(patch_components, settings, **options)
        return read_table(output)

    return run


def test_both_modes_write_the_same_effects(patch: Any, tmp_path: Path) -> None:
    fast = patch()
    assert fast.schema == EFFECTS_SCHEMA
    keys = ["set", "pair", "layer", "component"]
    assert fast.select(keys).rows() == [
        (name, pair, layer, component)
        for name, pair in (("own", 0), ("own", 1), ("common", 0))
        for layer in range(4)
        for component in ("attention", "mlp")
    ]
    own, common = (fast.filter(set=name, pair=pair) for name, pair in (("own", 1), ("common", 0)))
    assert own.drop("set", "pair").equals(common.drop("set", "pair"))
    reference = patch(mode="reference")
    for column in (
        "effect",
        "direct",
        "direct_total",
        "clean_logit",
        "corrupted_logit",
        "patched_logit",
    ):
        assert fast[column].to_list() == pytest.approx(
            reference[column].to_list(), rel=1e-4, abs=1e-4
        )
    provenance = read_provenance(tmp_path / "effects.parquet")
    assert (provenance.kind, provenance.model) == ("component_effects", "tiny")
    assert set(provenance.inputs) == {"classifier", "corpus", "pairs"}


def test_equal_runs_give_equal_bytes(patch: Any, tmp_path: Path) -> None:
    patch()
    first = (tmp_path / "effects.parquet").read_bytes()
    patch()
    assert (tmp_path / "effects.parquet").read_bytes() == first


def test_no_pairs_give_an_empty_table(patch: Any, tmp_path: Path) -> None:
    table = patch(pairs=write_pairs(tmp_path, []))
    assert table.height == 0
    assert table.schema == EFFECTS_SCHEMA


def test_pairs_of_another_study(patch: Any, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"pairs\.parquet: held-out post 6 is not in 0\.\.5"):
        patch(pairs=write_pairs(tmp_path, [("own", 0, 6, 1, "cooking", "cars", 0.9)]))
    with pytest.raises(StudyError, match="the classifier has no label 'wine'"):
        patch(pairs=write_pairs(tmp_path, [("own", 0, 3, 1, "wine", "cars", 0.9)]))
