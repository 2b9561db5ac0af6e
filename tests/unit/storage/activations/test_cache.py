"""Reading activation caches: batches, damage, purging."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.activations.cache import ActivationCache, purge_shards
from glossogenesis.storage.provenance import SCRIPTS
from glossogenesis.storage.tensors import read_provenance
from support.tiny_cache import D_MODEL, SHARDS, tiny_rows, window_of, write_tiny_caches


@pytest.fixture
def cache(tmp_path: Path) -> ActivationCache:
    return write_tiny_caches(tmp_path, 3)[0]


def read_all(cache: ActivationCache, split: str = "train", **options: bool) -> None:
    for _ in cache.shards(split, **options):
        pass


def test_gives_back_what_was_written(cache: ActivationCache) -> None:
    opened = ActivationCache.open(cache.manifest)
    assert opened == cache
    assert (opened.model, opened.checkpoint, opened.layer) == ("tiny", "step1", 3)
    assert (opened.hook, opened.d_model, opened.dtype) == ("model.layers.3", D_MODEL, "bfloat16")
    assert opened.languages == ("en", "ru")
    for split, shards in SHARDS.items():
        assert opened.rows_in(split) == sum(shards)
        assert opened.rows_of_shards(split) == shards
        for number, rows in enumerate(opened.shards(split)):
            expected = window_of(number, shards[number], 3)[3]
            assert rows.tensors.keys() == expected.tensors.keys()
            for name, tensor in expected.tensors.items():
                assert torch.equal(rows.tensors[name], tensor)
                assert rows.tensors[name].dtype == tensor.dtype


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_reading_ahead_changes_nothing(cache: ActivationCache, prefetch: int) -> None:
    rows = [shard.token_ids.tolist() for shard in cache.shards("train", prefetch=prefetch)]
    assert rows == [list(range(n)) for n in SHARDS["train"]]
    (last,) = cache.shards("train", first=2, prefetch=prefetch)
    assert len(last) == SHARDS["train"][2]


def test_reading_can_end_early(cache: ActivationCache) -> None:
    assert len(next(cache.shards("train"))) == SHARDS["train"][0]


def test_shards_are_safetensors_with_provenance(cache: ActivationCache) -> None:
    path = cache.manifest.parent / "train_00000.safetensors"
    assert read_provenance(path).kind == "activations"
    with safe_open(str(path), framework="pt") as file:
        assert torch.equal(
            file.get_tensor("activations"), window_of(0, SHARDS["train"][0], 3)[3].activations
        )
        assert file.get_tensor("languages").dtype == torch.uint8


def test_float32_is_kept_exactly(tmp_path: Path) -> None:
    from glossogenesis.storage.activations.cache import read_shard, write_shard
    from support.tiny_cache import tiny_provenance

    rows = tiny_rows(5, seed=1, dtype="float32")
    facts = write_shard(tmp_path / "a.safetensors", rows, tiny_provenance(0))
    read = read_shard(tmp_path / "a.safetensors", facts, "", verify=True)
    assert torch.equal(read.activations, rows.activations)


def test_a_missing_shard(cache: ActivationCache) -> None:
    path = cache.manifest.parent / "train_00001.safetensors"
    path.unlink()
    with pytest.raises(StudyError) as error:
        read_all(cache)
    assert str(error.value) == (
        f"{path}: the shard is missing; delete {cache.manifest} and rerun: equal activations are "
        "made again"
    )


def test_a_truncated_shard(cache: ActivationCache) -> None:
    path = cache.manifest.parent / "train_00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StudyError, match=r"train_00002.safetensors: \d+ bytes long, not \d+; del"):
        read_all(cache, verify=False)


def test_a_flipped_byte(cache: ActivationCache) -> None:
    path = cache.manifest.parent / "held_out_00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StudyError, match=r"held_out_00001.safetensors: its bytes are not those"):
        read_all(cache, "held_out")
    read_all(cache, "train")


def test_a_purged_cache_keeps_its_manifest_and_can_be_remade(
    cache: ActivationCache, tmp_path: Path
) -> None:
    files = sorted(cache.manifest.parent.iterdir())
    contents = [path.read_bytes() for path in files]
    sizes = sum(path.stat().st_size for path in files if path.suffix == ".safetensors")
    assert not cache.is_purged("train")

    assert purge_shards(cache.manifest) == sizes
    assert [path.name for path in cache.manifest.parent.iterdir()] == ["manifest.json"]
    assert cache.is_purged("train")
    assert purge_shards(cache.manifest) == 0
    with pytest.raises(StudyError, match=r"layer_3: its train activations were purged; delete"):
        read_all(cache)

    write_tiny_caches(tmp_path, 3)
    assert [path.read_bytes() for path in files] == contents


def test_a_layer_that_the_cache_lacks(tmp_path: Path) -> None:
    write_tiny_caches(tmp_path, 2, 10)
    with pytest.raises(
        StudyError, match=r"layer_5/manifest.json: no such cache among layer_2, layer_10; add the"
    ):
        ActivationCache.open(tmp_path / "layer_5" / "manifest.json")
    with pytest.raises(StudyError, match=r"no such cache; run the workflow to make it"):
        ActivationCache.open(tmp_path / "elsewhere" / "layer_5" / "manifest.json")


def test_a_split_that_the_cache_lacks(cache: ActivationCache) -> None:
    with pytest.raises(StudyError, match=r"holds no 'test' activations, only held_out, train; set"):
        cache.rows_in("test")


@pytest.mark.parametrize("content", [{"splits": {}}, [1], {"splits": {"train": {"rows": 1}}}])
def test_a_manifest_of_something_else(tmp_path: Path, content: object) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content))
    with pytest.raises(
        StudyError, match=r"manifest.json: not a manifest of activations .*; delete"
    ):
        ActivationCache.open(path)


def test_readers_start_without_transformers() -> None:
    program = (
        "import sys; import glossogenesis.models.activation_order;"
        "import glossogenesis.storage.activations.cache;"
        "print(sorted({'transformers', 'polars', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(SCRIPTS)},
    )
    assert done.stdout.strip() == "[]"
