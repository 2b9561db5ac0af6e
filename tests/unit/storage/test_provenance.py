"""What changes a digest, what must not, and what an artifact says of its origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.provenance import (
    METADATA_KEY,
    Provenance,
    file_digest,
    provenance_in,
    settings_digest,
)


def test_settings_digest_ignores_the_order_of_keys() -> None:
    assert settings_digest({"a": 1, "b": [2, 3]}) == settings_digest({"b": [2, 3], "a": 1})
    assert settings_digest({"a": 1}) != settings_digest({"a": 2})


def test_file_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(path) == expected == file_digest(str(path))


def test_provenance_survives_metadata() -> None:
    origin = Provenance("states", "demo", {"dtype": "float32"}, {"prompts": "12"}, "ab", layer=3)
    assert provenance_in(origin.to_metadata(), "a file") == origin
    assert "torch" in origin.libraries


def test_files_of_others_are_named() -> None:
    with pytest.raises(StudyError, match=r"^x.parquet: carries no provenance; .*not written by"):
        provenance_in({}, "x.parquet")
    with pytest.raises(
        StudyError, match=r"^x.parquet: its provenance is of another version; .*rerun"
    ):
        provenance_in({METADATA_KEY: '{"of": "the future"}'}, "x.parquet")
