"""Text files: what is read, and what is said of those that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import read_text


def test_reads_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text("päivä", encoding=encoding)
        assert read_text(path, "lexicon", "look") == "päivä"


def test_names_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    with pytest.raises(StudyError, match=r"words.tsv: no such lexicon; see there$"):
        read_text(path, "lexicon", "see there")
    path.write_bytes("päivä".encode("latin-1"))
    with pytest.raises(StudyError, match=r"words.tsv: not UTF-8 text; save the lexicon as UTF-8$"):
        read_text(path, "lexicon", "see there")
    with pytest.raises(StudyError, match=r"the lexicon cannot be read \(.*directory\); see there$"):
        read_text(tmp_path, "lexicon", "see there")
    with pytest.raises(StudyError, match=r"cannot be read \(embedded null byte\)"):
        read_text("words\0", "lexicon", "see there")
