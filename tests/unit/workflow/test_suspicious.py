"""What is suspicious is said with the rows that it is about."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest

from glossogenesis.concepts.scoring import PATCHING_SCHEMA
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.manifest import describe_checkpoint
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tables import write_table
from glossogenesis.study.loading import load_study
from glossogenesis.workflow.preflight import left_out, same_weights, suspicious
from support.tiny_checkpoint import save_tiny_checkpoint
from support.tiny_models import tiny_model
from support.tiny_study import replace, tiny_study


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Two checkpoints, the second trained further."""
    early = save_tiny_checkpoint(tmp_path / "weights" / "early")
    late = Path(shutil.copytree(early, tmp_path / "weights" / "late"))
    size = json.loads((early / "config.json").read_text())["vocab_size"]
    tiny_model("llama", seed=1, vocab_size=size).save_pretrained(late)
    return tmp_path / "weights"


def take_up(folder: Path, results: Path, name: str) -> None:
    """Write the manifest of a checkpoint, as the workflow does."""
    describe_checkpoint(
        CheckpointLocation(str(folder / name)),
        model="local",
        checkpoint=name,
        source=name,
        provenance={},
    ).write(results / "checkpoints" / "local" / name / "manifest.json")


def test_different_checkpoints_are_not_suspicious(tmp_path: Path, weights: Path) -> None:
    study = tiny_study(tmp_path)
    assert suspicious(study, tmp_path / "results") == []
    for name in ("early", "late"):
        take_up(weights, tmp_path / "results", name)
    assert same_weights(study, tmp_path / "results") == []


def test_a_copied_checkpoint_is_named_with_both_rows(tmp_path: Path, weights: Path) -> None:
    shutil.rmtree(weights / "late")
    shutil.copytree(weights / "early", weights / "late")
    study, results = tiny_study(tmp_path), tmp_path / "results"
    (line,) = suspicious(study, results)
    assert "sheet.tsv: checkpoints 'early', 'late' of model 'local' have the same weig" in line
    for name in ("early", "late"):
        take_up(weights, results, name)
    # As after a download, of which only the manifests are left.
    shutil.rmtree(weights)
    assert same_weights(study, results) == [line]


def test_two_rows_of_one_step_are_named(tmp_path: Path) -> None:
    study = tiny_study(tmp_path)
    replace(tmp_path / "sheet.tsv", "late\t20", "late\t10")
    (line,) = suspicious(load_study(study.file), tmp_path / "results")
    assert "checkpoints 'early', 'late' of model 'local' are all of step 10" in line


def test_checkpoints_without_a_table_row_are_named(tmp_path: Path) -> None:
    assert left_out(tmp_path) == []
    facts = {"left_out": {"local/late": "local late: the states of layer 1 are NaN"}}
    origin = Provenance("concepts_accuracy", "s", {}, {}, "", facts=facts, libraries={})
    table = PATCHING_SCHEMA.to_frame()
    write_table(tmp_path / "tables" / "concepts_accuracy.parquet", table, origin)
    (line,) = left_out(tmp_path)
    assert line == "not in tables and figures: local late: the states of layer 1 are NaN"


def test_one_changed_weight_makes_another_checkpoint(tmp_path: Path, weights: Path) -> None:
    shutil.rmtree(weights / "late")
    shutil.copytree(weights / "early", weights / "late")
    content = bytearray((weights / "late" / "model.safetensors").read_bytes())
    content[len(content) // 3] ^= 1
    (weights / "late" / "model.safetensors").write_bytes(content)
    assert same_weights(tiny_study(tmp_path), tmp_path / "results") == []


def test_the_report_begins_with_the_notes() -> None:
    caption = Path(__file__).parents[3] / "resources" / "captions" / "study.rst"
    template = jinja2.Environment().from_string(caption.read_text(encoding="utf-8"))
    for notes in ([], ["sheet.tsv: checkpoints `a_` are alike"]):
        snakemake = SimpleNamespace(config={"notes": lambda notes=notes: notes})
        page = template.render(snakemake=snakemake)
        assert page.count("- ``sheet.tsv: checkpoints a_ are alike``") == len(notes)
