"""A file appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import atomic_path, read_json, write_json, write_text


def test_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        assert temporary.parent == target.parent
    assert target.read_text() == "half"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_text("new")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_mode_is_that_of_an_ordinary_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "shared.txt", "x")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)
    assert (tmp_path / "shared.txt").stat().st_mode & 0o777 == 0o640


def test_equal_json_is_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": "ä", "a": [1]})
    write_json(tmp_path / "b.json", {"a": [1], "b": "ä"})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json") == {"a": [1], "b": "ä"}


def test_unreadable_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    with pytest.raises(StudyError, match=r"manifest.json: no such JSON file; run the workflow"):
        read_json(path)
    path.write_text('{"half":')
    with pytest.raises(StudyError, match=r"manifest.json: not valid JSON .*delete it and rerun"):
        read_json(path)
