"""A folder that another library wrote is whole as long as none of its files changes."""

from __future__ import annotations

from pathlib import Path

from glossogenesis.storage.files import DIGESTS, has_recorded_bytes, record_digests


def test_any_change_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("state.json", "deep/weights.safetensors"):
        (tmp_path / name).write_bytes(b"content")
    assert not has_recorded_bytes(tmp_path)
    record_digests(tmp_path)
    record_digests(tmp_path)
    assert has_recorded_bytes(tmp_path)
    for name in ("state.json", "deep/weights.safetensors", DIGESTS):
        content = (tmp_path / name).read_bytes()
        for damaged in (content[:-3], content.replace(b"t", b"u", 1)):
            (tmp_path / name).write_bytes(damaged)
            assert not has_recorded_bytes(tmp_path), name
        (tmp_path / name).unlink()
        assert not has_recorded_bytes(tmp_path), name
        (tmp_path / name).write_bytes(content)
    assert has_recorded_bytes(tmp_path)
