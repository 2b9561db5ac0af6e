"""`verify` finds what is not as it was written, and names what makes it again."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from glossogenesis.cli import app
from glossogenesis.exceptions import StudyError
from glossogenesis.figures.style import new_figure, save_figure
from glossogenesis.hub.files import KeptRevision, keep_revision, revision_file
from glossogenesis.models.manifest import CLASSIFIER_SOURCE
from glossogenesis.sae.files import SaeFacts, write_sae
from glossogenesis.storage.activations.cache import purge_shards
from glossogenesis.storage.activations.writer import JOURNAL
from glossogenesis.storage.files import write_json
from glossogenesis.storage.provenance import Provenance, file_digest
from glossogenesis.storage.tables import write_csv, write_table
from glossogenesis.storage.tensors import write_tensors
from glossogenesis.workflow.verification import verify
from support.tiny_cache import write_tiny_caches
from support.tiny_corpus import tiny_corpus
from support.tiny_saes import random_sae

ORIGIN = Provenance("table", "demo", {}, {}, "ab", libraries={})
TABLE = pl.DataFrame({"p": [0.1, 1 / 3]})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of results with one artifact of every format, and files that are none."""
    results = tmp_path / "results"
    write_table(results / "tables" / "accuracy.parquet", TABLE, ORIGIN)
    write_csv(results / "tables" / "accuracy.csv", TABLE)
    write_tensors(results / "concepts" / "states.safetensors", {"a": torch.ones(3)}, ORIGIN)
    figure = new_figure(2, 2)
    figure.add_subplot().plot([0, 1])
    save_figure(figure, results / "figures" / "accuracy", TABLE)
    facts = SaeFacts("model.layers.1", "tiny", None, 4, "text")
    write_sae(results / "sae" / "topk", random_sae(4, 8), facts, ORIGIN)
    write_tiny_caches(results / "activations", 1)
    tiny_corpus(results / "corpora")
    step = results / "pretraining" / "tiny" / "step_000004"
    step.mkdir(parents=True)
    (step / "config.json").write_text('{"model_type": "llama"}')
    saved = {"folder": step.name, "files": {"config.json": facts_of(step / "config.json")}}
    write_json(step.parent / "manifest.json", {"checkpoints": [saved]})
    weights = results / "classifiers" / "tiny" / "weights" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    classifier = {
        "source": CLASSIFIER_SOURCE,
        "folder": str(weights.parent),
        "weights": {weights.name: facts_of(weights)},
    }
    write_json(weights.parents[1] / "manifest.json", classifier)
    (results / "README.md").write_text("about results")
    (results / "resume" / "sae").mkdir(parents=True)
    (results / "resume" / "sae" / "state.safetensors").write_bytes(b"half")
    return results


def made_with(path: Path) -> list[Path]:
    """What a rule may list in place of a file: a manifest, a configuration or a picture."""
    pictures = [path.with_suffix(".svg"), path.with_suffix(".pdf")]
    return [*path.parent.glob("*.json"), *path.parents[1].glob("*.json"), *pictures]


def facts_of(path: Path) -> dict[str, object]:
    return {"bytes": path.stat().st_size, "sha256": file_digest(path)}


def test_what_was_written_is_whole(results: Path) -> None:
    found = verify(results)
    assert found.damages == ()
    assert found.unknown == ()
    files = [path for path in results.rglob("*") if path.is_file()]
    assert found.checked == len(files) - len(["README.md", "state.safetensors"])


def test_every_changed_file_is_found(results: Path) -> None:
    for path in sorted(results.rglob("*")):
        if not path.is_file() or path.name == "README.md" or "resume" in path.parts:
            continue
        content = path.read_bytes()
        changed = bytearray(content)
        changed[len(content) // 2] ^= 1
        for damaged in (bytes(changed), content[: len(content) // 2], b""):
            path.write_bytes(damaged)
            damages = verify(results).damages
            assert path in {damage.path for damage in damages}, path
            for damage in damages:
                assert damage.target in {path, *made_with(path)}
        path.write_bytes(content)
    assert verify(results).damages == ()


def test_a_missing_neighbour_is_made_again_with_its_manifest(results: Path) -> None:
    (results / "sae" / "topk" / "sae_weights.safetensors").unlink()
    (damage,) = verify(results).damages
    assert damage.path == results / "sae" / "topk" / "sae_weights.safetensors"
    assert damage.target == results / "sae" / "topk" / "cfg.json"


def test_purged_activations_are_whole_and_half_of_them_are_not(results: Path) -> None:
    manifest = results / "activations" / "layer_1" / "manifest.json"
    (manifest.parent / "train_00001.safetensors").unlink()
    (damage,) = verify(results).damages
    assert damage.target == manifest
    purge_shards(manifest)
    assert verify(results).damages == ()


def test_removed_downloads_are_whole_and_damaged_ones_are_not(results: Path) -> None:
    weights = results / "downloads" / "tiny" / "late" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    manifest = results / "checkpoints" / "tiny" / "late" / "manifest.json"
    fetched = {
        "source": "someone/model",
        "commit": "a" * 40,
        "folder": str(weights.parent),
        "weights": {weights.name: facts_of(weights)},
    }
    write_json(manifest, fetched)
    weights.write_bytes(b"damaged")
    (damage,) = verify(results).damages
    assert (damage.path, damage.target) == (weights, manifest)
    weights.unlink()
    assert verify(results).damages == ()
    # Without a commit nothing says where they would come back from.
    write_json(manifest, fetched | {"source": "own/folder", "commit": None})
    (damage,) = verify(results).damages
    assert (damage.path, damage.reason) == (weights, "missing")


def test_the_journal_of_unfinished_activations_is_a_state_and_no_artifact(results: Path) -> None:
    checked = verify(results).checked
    (results / "activations" / JOURNAL).write_text("{")
    found = verify(results)
    assert (found.checked, found.damages, found.unknown) == (checked, (), ())


def test_a_damaged_record_of_revisions_is_made_again_by_fetching(results: Path) -> None:
    # A checkpoint may have any name, that of the journal too.
    for checkpoint in ("late", "unfinished"):
        record = revision_file(results, "tiny", checkpoint)
        keep_revision(record, KeptRevision("someone/model", None, "a" * 40))
        assert verify(results).damages == ()
        record.write_text(record.read_text().replace("aaaa", "aaab", 1))
        (damage,) = verify(results).damages
        manifest = results / "checkpoints" / "tiny" / checkpoint / "manifest.json"
        assert (damage.path, damage.target) == (record, manifest)
        assert "; deleting it takes the commit that the branch has now; to keep" in damage.reason
        assert f"the commit in {manifest} as `revision`" in damage.reason
        record.unlink()


def test_a_damaged_record_of_a_dataset_is_made_again_by_preparing_its_corpus(
    results: Path,
) -> None:
    manifests = [results / "corpora" / "text" / name / "manifest.json" for name in ("a", "b")]
    for manifest in manifests:
        write_json(manifest, {})
    record = revision_file(results, "text")
    keep_revision(record, KeptRevision("some/text", None, "a" * 40))
    assert verify(results).damages == ()
    record.write_text("{")
    damages = verify(results).damages
    assert [damage.path for damage in damages] == [record, record]
    assert [damage.target for damage in damages] == manifests


def test_files_that_nothing_vouches_for_are_counted(results: Path) -> None:
    (results / "tables" / "mine.csv").write_text("a\n1\n")
    (results / "tables" / "older.json").write_text(json.dumps({"a": 1}))
    assert [path.name for path in verify(results).unknown] == ["mine.csv", "older.json"]


def test_the_command_names_damage_and_its_fix(results: Path) -> None:
    runner = CliRunner()
    whole = runner.invoke(app, ["verify", str(results)])
    assert whole.exit_code == 0
    assert "0 of them are damaged" in whole.stdout
    table = results / "tables" / "accuracy.csv"
    table.write_text("p\n0.2\n")
    damaged = runner.invoke(app, ["verify", str(results)])
    assert damaged.exit_code == 1
    assert f"damaged: {table}: not a copy of accuracy.parquet" in damaged.stderr
    assert damaged.stderr.endswith(f"    rm -f {table}\n    snakemake --cores all {table}\n")


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="none: no such folder of results"):
        verify(tmp_path / "none")
