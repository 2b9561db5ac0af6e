"""Writing activation caches: interruptions, full disks, leftovers."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.storage import files
from glossogenesis.storage.activations import writer as writer_module
from glossogenesis.storage.activations.cache import ActivationCache, write_shard
from glossogenesis.storage.activations.writer import JOURNAL
from support.tiny_cache import SHARDS, tiny_writer, window_of, write_tiny_caches


def contents_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    """What an undisturbed run writes."""
    write_tiny_caches(tmp_path / "undisturbed", 0, 1)
    return contents_of(tmp_path / "undisturbed")


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    """Let the flush of one shard of layer 1 fail, as where a full disk shows only then."""
    flush = files._flush_to_disk

    def flush_or_fail(path: Path) -> None:
        if path.name.startswith(f".{name}.") and path.parent.name == "layer_1":
            raise error
        flush(path)

    monkeypatch.setattr(files, "_flush_to_disk", flush_or_fail)


def test_writes_shards_and_manifests_only(expected: dict[str, bytes]) -> None:
    names = [f"{s}_{n:05d}.safetensors" for s in SHARDS for n in range(len(SHARDS[s]))]
    assert set(expected) == {
        f"layer_{layer}/{name}" for layer in (0, 1) for name in [*names, "manifest.json"]
    }


def test_no_manifest_before_the_end(tmp_path: Path) -> None:
    with tiny_writer(tmp_path, 0) as writer:
        writer.add("train", 0, window_of(0, 5, 0), dropped_rows=0)
        writer.add("train", 1, window_of(1, 5, 0), dropped_rows=2)
        assert (tmp_path / "layer_0" / "train_00000.safetensors").exists()
        assert not (tmp_path / "layer_0" / "manifest.json").exists()
        writer.finish()
    cache = ActivationCache.open(tmp_path / "layer_0" / "manifest.json")
    assert (cache.rows_in("train"), cache.dropped_rows) == (10, 2)


def test_computing_goes_on_while_a_window_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()

    def write(path: Path, rows: Any, provenance: Any) -> Any:
        assert may_write.wait(timeout=10)
        return write_shard(path, rows, provenance)

    monkeypatch.setattr(writer_module, "write_shard", write)
    with tiny_writer(tmp_path, 0) as writer:
        writer.add("train", 0, window_of(0, 5, 0), dropped_rows=0)
        may_write.set()
        writer.add("train", 1, window_of(1, 5, 0), dropped_rows=0)
        writer.finish()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_the_next_run_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes], code: int
) -> None:
    folder = tmp_path / "caches"
    with monkeypatch.context() as patch:
        fail_at(patch, "train_00001.safetensors", OSError(code, "No space left on device"))
        with pytest.raises(StudyError) as error:
            write_tiny_caches(folder, 0, 1)
    message = str(error.value)
    assert "layer_1/train_00001.safetensors: the disk is full. Free some space" in message
    assert "rerun to continue" in message
    assert "\n" not in message
    assert not [name for name in contents_of(folder) if name.endswith((".part", "manifest.json"))]

    with tiny_writer(folder, 0, 1) as writer:
        assert writer.finished("train") == {0}
        assert writer.rows_finished("train") == SHARDS["train"][0]
    write_tiny_caches(folder, 0, 1)
    assert contents_of(folder) == expected


def test_other_errors_of_the_writing_thread_surface(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, "train_00000.safetensors", PermissionError(errno.EACCES, "denied"))
    with pytest.raises(PermissionError):
        write_tiny_caches(tmp_path, 1)


def test_interrupted_between_windows(tmp_path: Path, expected: dict[str, bytes]) -> None:
    with pytest.raises(KeyboardInterrupt), tiny_writer(tmp_path / "caches", 0, 1) as writer:
        writer.add("train", 0, window_of(0, SHARDS["train"][0], 0, 1), dropped_rows=0)
        raise KeyboardInterrupt
    assert (tmp_path / "caches" / JOURNAL).exists()
    write_tiny_caches(tmp_path / "caches", 0, 1)
    assert contents_of(tmp_path / "caches") == expected


def test_damaged_shards_of_an_interrupted_run_are_written_again(
    tmp_path: Path, expected: dict[str, bytes]
) -> None:
    folder = tmp_path / "caches"
    with tiny_writer(folder, 0, 1) as writer:
        for number in (0, 1):
            rows = window_of(number, SHARDS["train"][number], 0, 1)
            writer.add("train", number, rows, dropped_rows=0)
        writer._wait()
    damaged = folder / "layer_1" / "train_00000.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-2] + b"xx")
    with tiny_writer(folder, 0, 1) as writer:
        assert writer.finished("train") == {1}
    write_tiny_caches(folder, 0, 1)
    assert contents_of(folder) == expected


def test_shards_of_another_computation_are_not_taken_over(tmp_path: Path) -> None:
    with tiny_writer(tmp_path, 0, batch=1) as writer:
        writer.add("train", 0, window_of(0, 5, 0), dropped_rows=0)
        writer._wait()
    with tiny_writer(tmp_path, 0, batch=2) as writer:
        assert writer.finished("train") == frozenset()
    assert not list(tmp_path.glob("layer_0/*.safetensors"))


def test_old_manifests_and_leftovers_vanish_first(tmp_path: Path) -> None:
    write_tiny_caches(tmp_path, 0)
    folder = tmp_path / "layer_0"
    (folder / ".train_00009.safetensors.abc.part").write_bytes(b"half")
    (folder / "notes.txt").write_text("the user's own")
    with tiny_writer(tmp_path, 0):
        assert [path.name for path in folder.iterdir()] == ["notes.txt"]
