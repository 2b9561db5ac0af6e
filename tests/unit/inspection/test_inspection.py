"""What `glossogenesis inspect` says of each kind of file."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import polars as pl
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from glossogenesis.exceptions import StudyError
from glossogenesis.inspection.content import KINDS, cell, size_in_words
from glossogenesis.inspection.page import inspect_path, lay_out
from glossogenesis.storage.files import write_json
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tables import write_csv, write_table
from glossogenesis.storage.tensors import write_tensors

TABLE = pl.DataFrame(
    {
        "answer": ["猫", None, "кошка"],
        "text": ['Español: "gato"\nSuomi: "kissa"'] * 3,
        "token_ids": [list(range(30))] * 3,
        "accuracy": [0.123456789, 1.0, 0.0],
    }
)


def provenance(kind: str) -> Provenance:
    return Provenance(
        kind=kind,
        study="demo",
        settings={"endonyms": {"ja": "日本語"}, "start_layers": [0, 3], "mode": "fast"},
        inputs={"lexicon": "ab12" * 16},
        code="c0de",
        model="tiny",
        checkpoint="step_64",
        revision="deadbeef",
        layer=0,
        seed=42,
        dtype="bfloat16",
        device="cpu",
        facts={"concepts": ["cat", "dog"]},
    )


def shown(path: Path, rows: int = 5, width: int = 120) -> str:
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(lay_out(inspect_path(path, rows), width))
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def test_table_with_its_whole_provenance(tmp_path: Path):
    path = tmp_path / "patching.parquet"
    write_table(path, TABLE, provenance("patching"))
    page = shown(path)
    assert KINDS["patching", ".parquet"] in page
    for fact in (
        "demo",
        "tiny",
        "step_64",
        "deadbeef",
        "42",
        "bfloat16",
        "cpu",
        "c0de",
        "ab12" * 16,
    ):
        assert fact in page
    assert re.search(r"^layer +0", page, re.M), "layer 0 is a layer"
    assert "torch " in page
    assert "endonyms: {ja: 日本語}\nmode: fast\nstart_layers: [0, 3]" in page
    assert "concepts: [cat, dog]" in page


def test_table_columns_and_rows(tmp_path: Path):
    path = tmp_path / "patching.parquet"
    write_table(path, TABLE, provenance("patching"))
    page = shown(path, rows=2)
    assert re.search(r"^rows +3", page, re.M)
    assert re.search(r"^answer +String +1 +What was generated, up to", page, re.M)
    assert re.search(r"^token_ids +List\(Int64\) +0 *$", page, re.M)
    assert "猫" in page
    assert "null" in page
    assert "кошка" not in page, "the third row was not asked for"
    assert "0.123457" in page
    assert 'Español: "gato"⏎Suomi: "kissa"' in page
    assert "… 18 more]" in page


def test_wide_rows_stand_one_below_the_other_and_narrow_ones_beside(tmp_path: Path):
    path = tmp_path / "patching.parquet"
    write_table(path, TABLE, provenance("patching"))
    assert "row 0" in shown(path, width=80)
    assert "row 0" not in shown(path, width=300)


def test_no_value_is_lost_to_a_narrow_terminal(tmp_path: Path):
    path = tmp_path / "table.parquet"
    TABLE.with_columns(text=pl.lit("x" * 150 + "end")).write_parquet(path)
    assert "end" in shown(path, width=60).replace("\n", "").replace(" ", "")


def test_foreign_table_has_no_provenance(tmp_path: Path):
    path = tmp_path / "foreign.parquet"
    TABLE.write_parquet(path)
    assert "no provenance" in shown(path)


def test_empty_table(tmp_path: Path):
    path = tmp_path / "patching.parquet"
    write_table(path, TABLE.clear(), provenance("patching"))
    assert "First rows (0)" in shown(path)


def test_csv_names_the_parquet_that_carries_its_provenance(tmp_path: Path):
    csv = tmp_path / "concepts_accuracy.csv"
    write_csv(csv, TABLE.drop("token_ids"))
    assert "copy of" not in shown(csv)
    write_table(csv.with_suffix(".parquet"), TABLE, provenance("concepts_accuracy"))
    assert "concepts_accuracy.parquet, which carries the provenance" in shown(csv)


def test_sheet_is_read_with_its_tabs(tmp_path: Path):
    sheet = tmp_path / "lexicon.tsv"
    sheet.write_text('concept\ten\ncat\t"cat\n', encoding="utf-8")
    assert '"cat' in shown(sheet)


def test_tensors_are_summed_up(tmp_path: Path):
    path = tmp_path / "states.safetensors"
    values = torch.tensor([[1.0, float("nan")], [-3.0, 2.0]], dtype=torch.bfloat16)
    tensors = {"es-en": values, "ru-fi": torch.full((2,), float("nan")), "ids": torch.arange(3)}
    write_tensors(path, tensors, provenance("states"))
    page = re.sub(r" +", " ", shown(path))
    assert KINDS["states", ".safetensors"] in page
    assert "es-en bfloat16 [2, 2] -3 0 2 1" in page
    assert "ru-fi float32 [2] - - - 2" in page
    assert "ids int64 [3] 0 1 2 0" in page


def test_foreign_tensors(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(2), "flag": torch.tensor([True, False])}, path)
    page = re.sub(r" +", " ", shown(path))
    assert "weights of a model" in page
    assert "no provenance" in page
    assert "flag bool [2] 0 0.5 1 0" in page


def checkpoint_manifest(folder: Path) -> Path:
    folder.mkdir()
    save_file({"weight": torch.ones(4, 2)}, folder / "model.safetensors")
    size = (folder / "model.safetensors").stat().st_size
    content = {
        "model": "tiny",
        "source": "org/model",
        "commit": "deadbeef",
        "folder": str(folder),
        "weights": {"model.safetensors": {"bytes": size, "sha256": "fa57"}},
        "provenance": asdict(provenance("checkpoint")),
    }
    path = folder.parent / "manifest.json"
    write_json(path, content)
    return path


def test_manifest_and_whether_its_weights_are_in_place(tmp_path: Path):
    path = checkpoint_manifest(tmp_path / "weights")
    page = shown(path)
    assert KINDS["checkpoint", ".json"] in page
    assert "commit: deadbeef" in page
    assert "in place" in page
    assert "fa57" in page
    weights = tmp_path / "weights" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    assert "bytes instead of" in shown(path)
    weights.unlink()
    assert "missing" in shown(path)


def test_checkpoint_folder(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 2}))
    save_file({"a": torch.ones(4, 2), "b": torch.ones(3)}, tmp_path / "model.safetensors")
    page = shown(tmp_path)
    assert re.search(r"architecture +llama", page)
    assert re.search(r"model.safetensors +\d+ bytes +2 +11", page)
    assert "hidden_size: 2" in page


def test_folder_of_results(tmp_path: Path):
    write_table(
        tmp_path / "tables" / "concepts_accuracy.parquet", TABLE, provenance("concepts_accuracy")
    )
    write_csv(tmp_path / "tables" / "concepts_accuracy.csv", TABLE.drop("token_ids"))
    checkpoint_manifest(tmp_path / "weights")
    (tmp_path / "tables" / ".concepts.parquet.x.part").write_text("unfinished")
    (tmp_path / "broken.parquet").write_text("nothing")
    page = shown(tmp_path)
    assert "tables/concepts_accuracy.parquet" in page
    assert KINDS["concepts_accuracy", ".parquet"] in page
    assert KINDS["checkpoint", ".json"] in page
    assert "damaged file" in page
    assert ".part" not in page
    assert re.search(r"^files +5", page, re.M)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.parquet", None, "no such file or folder"),
        ("table.parquet", b"PAR1 cut short", "damaged Parquet file"),
        ("empty.parquet", b"", "damaged Parquet file"),
        ("states.safetensors", b"\x10", "damaged safetensors file"),
        ("manifest.json", b"{", "not valid JSON"),
        ("list.json", b"[1]", "not a manifest"),
        ("empty.csv", b"", "damaged table"),
        ("weights.bin", b"x", "not a kind of file that can be shown"),
    ],
)
def test_bad_files_are_one_clear_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StudyError, match=message) as raised:
        inspect_path(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_truncated_tensors(tmp_path: Path):
    path = tmp_path / "states.safetensors"
    write_tensors(path, {"a": torch.ones(1000)}, provenance("states"))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(StudyError, match="damaged safetensors file"):
        inspect_path(path)


def test_truncated_table(tmp_path: Path):
    path = tmp_path / "patching.parquet"
    write_table(path, TABLE, provenance("patching"))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(StudyError, match="damaged Parquet file"):
        inspect_path(path)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (3_400_000_000, "3.4 GB"),
        (2e15, "2000.0 TB"),
    ],
)
def test_sizes(size: float, words: str):
    assert size_in_words(size) == words


def test_very_long_text_is_cut_with_its_length():
    assert cell("x" * 1000).endswith("… (1000 characters)")
    assert cell("x" * 400) == "x" * 400
