"""Seals: whatever byte of a sealed file changes, it is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from glossogenesis.exceptions import StudyError
from glossogenesis.features.collection import write_examples
from glossogenesis.storage.files import read_json, sealed_path, write_json
from glossogenesis.storage.provenance import Provenance, SealState, seal_state
from glossogenesis.storage.tables import read_table, write_table
from glossogenesis.storage.tensors import ResumeState, read_tensors, write_tensors

ORIGIN = Provenance("table", "demo", {"quoted": 'a "word"'}, {}, "ab", libraries={"torch": "2"})
TABLE = pl.DataFrame({"words": ["seal", "foca", "тюлень"] * 20, "p": np.arange(60) / 7})
TENSORS = {"weights": torch.arange(60.0), "ids": torch.arange(7, dtype=torch.uint8)}


def sealed_table(folder: Path) -> Path:
    write_table(folder / "table.parquet", TABLE, ORIGIN)
    return folder / "table.parquet"


def sealed_examples(folder: Path) -> Path:
    write_examples(folder / "examples.parquet", [TABLE, TABLE], ORIGIN)
    return folder / "examples.parquet"


def sealed_tensors(folder: Path) -> Path:
    write_tensors(folder / "tensors.safetensors", TENSORS, ORIGIN)
    return folder / "tensors.safetensors"


def sealed_object(folder: Path) -> Path:
    write_json(folder / "manifest.json", {"тюлень": [1, {"a": "b"}], "model": "tiny"})
    return folder / "manifest.json"


WRITERS = (sealed_table, sealed_examples, sealed_tensors, sealed_object)


@pytest.mark.parametrize("write", WRITERS)
def test_a_change_of_any_byte_is_noticed(write: Callable[[Path], Path], tmp_path: Path) -> None:
    path = write(tmp_path)
    assert seal_state(path) is SealState.WHOLE
    content = path.read_bytes()
    step = max(1, len(content) // 300)
    for number, place in enumerate([*range(0, len(content), step), *range(-12, 0)]):
        damaged = bytearray(content)
        damaged[place] ^= 1 << number % 8
        # Another file each time: one that has not changed since is not read again.
        copy = path.with_name(f"{number}{path.suffix}")
        copy.write_bytes(damaged)
        assert seal_state(copy) is SealState.DAMAGED, f"byte {place} of {len(content)}"


@pytest.mark.parametrize("write", WRITERS)
def test_equal_content_gives_equal_bytes(write: Callable[[Path], Path], tmp_path: Path) -> None:
    folders = (tmp_path / "a", tmp_path / "b")
    for folder in folders:
        folder.mkdir()
    first, second = (write(folder).read_bytes() for folder in folders)
    assert first == second


def test_what_is_damaged_is_refused_with_its_fix(tmp_path: Path) -> None:
    readers = {sealed_table: read_table, sealed_tensors: read_tensors, sealed_object: read_json}
    for write, read in readers.items():
        path = write(tmp_path)
        content = bytearray(path.read_bytes())
        content[content.index(b"tiny") if write is sealed_object else len(content) // 3] ^= 1
        path.write_bytes(content)
        with pytest.raises(StudyError, match=rf"{path.name}: .*delete it and rerun"):
            read(path)


def test_others_read_sealed_files(tmp_path: Path) -> None:
    assert pq.read_table(sealed_table(tmp_path)).num_rows == 60
    assert load_file(sealed_tensors(tmp_path))["weights"][-1] == 59
    assert json.loads(sealed_object(tmp_path).read_text())["model"] == "tiny"


def test_files_of_others_have_no_seal(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    TABLE.write_parquet(tmp_path / "theirs.parquet")
    for name in ("config.json", "theirs.parquet"):
        assert seal_state(tmp_path / name) is SealState.NONE
    assert read_json(tmp_path / "config.json") == {"model_type": "llama"}


def test_an_object_is_sealed_where_its_format_has_room(tmp_path: Path) -> None:
    path = tmp_path / "cfg.json"
    write_json(path, {"d_in": 4, "metadata": {"own": {"k": 2}}}, seal_in=("metadata", "own"))
    content = json.loads(path.read_text())
    assert content.keys() == {"d_in", "metadata"}
    assert "file_seal" in content["metadata"]["own"]
    assert seal_state(path) is SealState.WHOLE


def test_a_file_without_a_place_for_its_seal_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 0 places for a seal"), sealed_path(tmp_path / "a"):
        pass
    assert not any(tmp_path.iterdir())


def test_a_state_with_one_bit_changed_counts_as_none(tmp_path: Path) -> None:
    state = ResumeState(tmp_path, "abc")
    state.save(TENSORS, {"rows": [0.1]})
    assert state.load() is not None
    content = bytearray(state.path.read_bytes())
    content[-3] ^= 1
    state.path.write_bytes(content)
    assert state.load() is None
