"""The checkpoint sheet: what a row means, and the line of each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.study.sheet import Checkpoint, read_sheet

HEADER = "model\tcheckpoint\tstep\ttokens\tphase\tsource\trevision\tsubfolder\n"


def sheet(folder: Path, text: str) -> Path:
    path = folder / "sheet.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_in_their_own_order(tmp_path: Path) -> None:
    rows = (
        "m\tlate\t20\t2000\t2\tsomeone/m\tstep20\tdeep/er\n"
        "\n"
        "m\tearly\t10\t\t\tpretrain:run\n"
        " n \tfirst\t0\t\t\t./weights\t\t\n"
    )
    assert read_sheet(sheet(tmp_path, HEADER + rows)) == (
        Checkpoint(
            model="m",
            checkpoint="late",
            step=20,
            tokens=2000,
            phase=2,
            source="someone/m",
            revision="step20",
            subfolder="deep/er",
        ),
        Checkpoint(model="m", checkpoint="early", step=10, source="pretrain:run"),
        Checkpoint(model="n", checkpoint="first", step=0, source="./weights"),
    )


def test_lines_that_begin_with_a_hash_are_remarks(tmp_path: Path) -> None:
    text = HEADER + "# to fill in\nm\tc\t1\t\t\tsomeone/m\t\t\n# and more\n"
    assert len(read_sheet(sheet(tmp_path, text))) == 1
    with pytest.raises(StudyError, match="line 4"):
        read_sheet(sheet(tmp_path, HEADER + "# one\n# two\nm\tc\tx\t\t\tsomeone/m\n"))


def test_columns_may_be_few_and_in_any_order(tmp_path: Path) -> None:
    (row,) = read_sheet(sheet(tmp_path, "source\tstep\tcheckpoint\tmodel\nsomeone/m\t1\tc\tm\n"))
    assert (row.source, row.step, row.tokens, row.phase) == ("someone/m", 1, None, 1)


def test_source_of_a_pretrained_checkpoint() -> None:
    row = Checkpoint(model="m", checkpoint="c", step=0, source="pretrain:run")
    assert row.pretrained_by == "run"
    assert Checkpoint(model="m", checkpoint="c", step=0, source="a/b").pretrained_by is None


def test_one_pretraining_at_two_steps_is_no_repeat(tmp_path: Path) -> None:
    rows = "m\ta\t0\t\t\tpretrain:run\nm\tb\t8\t\t\tpretrain:run\n"
    assert len(read_sheet(sheet(tmp_path, HEADER + rows))) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", r"empty; its first line names the columns model, checkpoint"),
        (HEADER, r"holds no checkpoint; add a row"),
        (
            HEADER.replace("\t", ","),
            r"no column 'model'; the first line names .* separated by tabs",
        ),
        ("model\tstep\tsource\n", r"no column 'checkpoint'"),
        (
            HEADER.replace("phase", "stage"),
            r"unknown column 'stage'; columns are model, checkpoint",
        ),
        (HEADER.replace("subfolder", "step"), r"column 'step' appears twice; remove one"),
        (HEADER + "m\tc\tten\t\t\ta/b\n", r"line 2: column 'step': 'ten': Input should be a valid"),
        (HEADER + "m\tc\t-1\t\t\ta/b\n", r"line 2: column 'step': '-1': .*greater than or equal"),
        (HEADER + "\nm\tc\t1\t\t0\ta/b\n", r"line 3: column 'phase': '0'"),
        (HEADER + "m\tc\t1\n", r"line 2: column 'source': fill the cell"),
        (
            HEADER + "a/b\tc\t1\t\t\ta/b\n",
            r"line 2: column 'model': 'a/b': names become parts of p",
        ),
        (HEADER + "m\t../c\t1\t\t\ta/b\n", r"line 2: column 'checkpoint': '../c': names become"),
        (HEADER + "m\tc\t1\t\t\ta/b\t\t\tx\n", r"line 2: 9 cells for 8 columns; remove a tab"),
        (
            HEADER + "m\tc\t1\t\t\ta/b\tx\nm\tc\t2\t\t\ta/b\ty\n",
            r"model 'm' has checkpoint 'c' twice; remove a row or rename it",
        ),
        (
            HEADER + "m\tc\t1\t\t\ta/b\tx\nm\td\t2\t\t\ta/b\tx\n",
            r"checkpoints 'c' and 'd' of model 'm' have the same source, revision and subfolder",
        ),
        (
            HEADER + "m\ta\t10\t\t1\ta/b\t1\nm\tb\t1000\t\t1\ta/b\t2\nm\tc\t100\t\t2\ta/b\t3\n",
            r"'c' of phase 2 has step 100, not beyond 1000 of 'b' in phase 1; .*add .*\(1000\) to",
        ),
        (
            HEADER + "m\ta\t10\t500\t1\ta/b\t1\nm\tb\t20\t100\t2\ta/b\t2\n",
            r"'b' of phase 2 has tokens 100, not beyond 500 of 'a' in phase 1",
        ),
        (
            HEADER + "m\ta\t10\t500\t\ta/b\t1\nm\tb\t20\t400\t\ta/b\t2\n",
            r"checkpoint 'b' has a later step and fewer tokens than 'a'; correct a cell",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, expected: str) -> None:
    path = sheet(tmp_path, text)
    with pytest.raises(StudyError, match=expected) as caught:
        read_sheet(path)
    assert str(caught.value).startswith(str(path))


def test_surplus_empty_cells_mean_nothing(tmp_path: Path) -> None:
    row = "m\tc\t1\t\t\ta/b"
    plain = read_sheet(sheet(tmp_path, HEADER + row + "\n"))
    header = HEADER.rstrip("\n")
    for ending in ("\t\t\t\t", "\t\t\t \t\t"):
        assert read_sheet(sheet(tmp_path, f"{header}\n{row}{ending}\n")) == plain
        assert read_sheet(sheet(tmp_path, f"{header}{ending}\n{row}{ending}\n")) == plain


def test_each_model_has_an_axis_of_its_own_and_rows_any_order(tmp_path: Path) -> None:
    rows = ["m\tb\t200\t\t2\ta/b\tx", "m\ta\t100\t\t1\ta/b\ty", "n\ta\t1\t\t2\ta/b\tx"]
    found = read_sheet(sheet(tmp_path, HEADER + "\n".join(rows) + "\n"))
    assert [row.step for row in found] == [200, 100, 1]
