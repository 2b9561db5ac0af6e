"""Manifests of checkpoints: what they record, and files that are no longer as recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.manifest import CheckpointManifest, WeightsFacts, describe_checkpoint
from glossogenesis.storage.provenance import file_digest
from glossogenesis.study.pretrain import folder_of_step
from support.tiny_checkpoint import save_tiny_checkpoint


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def describe(folder: Path, source: str = "./copy", **options: Any) -> CheckpointManifest:
    return describe_checkpoint(
        CheckpointLocation(str(folder)),
        model="m",
        checkpoint="late",
        source=source,
        provenance={"code": "ab"},
        **options,
    )


def test_records_what_a_checkpoint_is(folder: Path) -> None:
    manifest = describe(folder)
    weights = folder / "model.safetensors"
    facts = WeightsFacts(weights.stat().st_size, file_digest(weights))
    assert manifest.weights == {"model.safetensors": facts}
    assert (manifest.architecture, manifest.commit, manifest.revision) == ("llama", None, None)
    assert manifest.location == CheckpointLocation(str(folder))
    assert manifest.tokenizer_location == CheckpointLocation(str(folder))


def test_survives_its_file(folder: Path, tmp_path: Path) -> None:
    manifest = describe(folder)
    manifest.write(tmp_path / "manifest.json")
    assert CheckpointManifest.read(tmp_path / "manifest.json") == manifest


def test_a_tokenizer_from_elsewhere(folder: Path, tmp_path: Path) -> None:
    """For checkpoints that ship none, as many published ones."""
    other = save_tiny_checkpoint(tmp_path / "other", extra_words="perro")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(StudyError, match="holds no tokenizer file"):
        describe(folder)
    manifest = describe(folder, tokenizer=CheckpointLocation(str(other)))
    assert manifest.tokenizer_folder == str(other)
    assert manifest.tokenizer_digest == describe(other).tokenizer_digest


def test_changed_files_are_named(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    weights = folder / "model.safetensors"
    describe(folder).write(path)
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(
        StudyError,
        match=r"model.safetensors: \d+ bytes long, but .*manifest.json records \d+ bytes",
    ):
        CheckpointManifest.read(path)
    weights.unlink()
    with pytest.raises(
        StudyError, match=r"model.safetensors: missing.*--forcerun fetch_checkpoint"
    ):
        CheckpointManifest.read(path)


def test_the_tokenizer_alone_can_be_read_without_weights(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    describe(folder).write(path)
    (folder / "model.safetensors").unlink()
    manifest = CheckpointManifest.read(path, weights=False)
    assert manifest.tokenizer_folder == str(folder)


def test_a_pretrained_checkpoint_is_remade_by_its_pretraining(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    describe(folder, source="pretrain:demo").write(path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(StudyError, match=r"remake it with `snakemake --forcerun pretrain_model`"):
        CheckpointManifest.read(path)


def test_other_files_are_no_manifests(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    for content in ({"model": "m"}, [1, 2]):
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(
            StudyError, match=r"manifest.json: not a checkpoint manifest .*; delete it"
        ):
            CheckpointManifest.read(path)


def test_saved_steps_sort_by_step() -> None:
    folders = [folder_of_step(Path("run"), step).name for step in (1024, 0, 64)]
    assert sorted(folders) == ["step_000000", "step_000064", "step_001024"]


def test_a_flipped_bit_in_the_weights_is_found(folder: Path, tmp_path: Path) -> None:
    describe(folder).write(tmp_path / "manifest.json")
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(StudyError, match=r"model\.safetensors: damaged, its SHA-256"):
        CheckpointManifest.read(tmp_path / "manifest.json")


def test_text_of_another_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    manifest = describe(folder)
    manifest.check_tokenizer(manifest.tokenizer_digest, tmp_path / "prompts.parquet")
    with pytest.raises(
        StudyError,
        match=r"prompts.parquet: tokenised by another tokenizer than that of m late; remake it, or "
        "give the checkpoint another model name in the sheet",
    ):
        manifest.check_tokenizer("another", tmp_path / "prompts.parquet")
