"""Tables of the concepts study against rows counted by hand, and the program that writes them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from glossogenesis.concepts.scoring import OUTCOMES, PATCHING_SCHEMA, check_rows
from glossogenesis.concepts.tables import (
    ACCURACY_SCHEMA,
    OUTCOMES_SCHEMA,
    PROBABILITY_SCHEMA,
    accuracy_table,
    outcomes_table,
    probability_table,
)
from glossogenesis.exceptions import StudyError
from glossogenesis.statistics.clustered import ClusterSums, clustered_share_interval
from glossogenesis.statistics.intervals import Bootstrap, cluster_bootstrap
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tables import read_provenance, read_table, write_table
from glossogenesis.study.setups import CHECKPOINT_FACTS, with_checkpoint

PROGRAM = Path(__file__).parents[3] / "workflow_scripts" / "tabulate_concepts.py"


def row(setting: str, start_layer: int | None, outcome: str | None, **changes: object) -> dict:
    """One row of es->en whose source is `house` and target `dog`; `outcome` None: not generated."""
    return {
        "item": 0,
        "setting": setting,
        "input_language": "es",
        "output_language": "en",
        "start_layer": start_layer,
        "source_concept": "house",
        "target_concept": "dog",
        "expected_concept": "dog" if setting == "tgt_unpatched" else "house",
        "answer": outcome,
        "correct": None if outcome is None else outcome in ("correct", "synonym"),
        "outcome": outcome,
        "copyable": False,
        "log_p_source": math.log(0.25),
        "log_p_target": math.log(0.5),
        "log_p_expected": math.log(0.25),
    } | changes


ROWS = pl.DataFrame(
    [
        row("tgt_unpatched", None, "correct"),
        row("tgt_unpatched", None, "other", expected_concept="hotel", copyable=True),
        row("seen", 0, "correct"),
        row("seen", 0, "synonym", expected_concept="cat"),
        row("seen", 0, "kept_target", expected_concept="cat"),
        row("seen", 0, "correct", expected_concept="hotel", copyable=True, log_p_source=0.0),
        row("seen", 1, None),
    ],
    schema=PATCHING_SCHEMA,
)


def facts(checkpoint: str = "step8", step: int = 8, phase: int = 1) -> pl.DataFrame:
    """One row of a sheet."""
    return pl.DataFrame(
        [["demo", checkpoint, step, step * 100, phase]], CHECKPOINT_FACTS, orient="row"
    )


JOINED = with_checkpoint(ROWS, facts())


def only(table: pl.DataFrame, **wanted: object) -> dict:
    """The single row that has these values."""
    return table.filter(*[pl.col(name) == value for name, value in wanted.items()]).row(
        0, named=True
    )


def test_accuracy_counts_answers_by_subset() -> None:
    table = accuracy_table(JOINED)
    found = table.select("setting", "start_layer", "subset", "n", "correct").rows()
    assert found == [
        ("seen", 0, "all", 4, 3),
        ("seen", 0, "copyable", 1, 1),
        ("seen", 0, "not_copyable", 3, 2),
        ("tgt_unpatched", None, "all", 2, 1),
        ("tgt_unpatched", None, "copyable", 1, 0),
        ("tgt_unpatched", None, "not_copyable", 1, 1),
    ]
    seen = only(table, setting="seen", subset="all")
    # Concepts house, cat and hotel have 1 of 1, 1 of 2 and 1 of 1 right.
    low, high = clustered_share_interval(ClusterSums.of([[1, 1, 1]], [[1, 2, 1]]))
    assert (seen["accuracy"], seen["low"], seen["high"]) == (0.75, low[0], high[0])
    single = only(table, setting="seen", subset="copyable")
    assert (single["low"], single["high"]) == (None, None)
    assert (seen["model"], seen["checkpoint"], seen["step"], seen["tokens"], seen["phase"]) == (
        "demo",
        "step8",
        8,
        800,
        1,
    )


def test_outcomes_have_a_row_each_and_add_up_to_one() -> None:
    table = outcomes_table(JOINED)
    seen = table.filter(setting="seen")
    assert seen["outcome"].to_list() == list(OUTCOMES)
    assert seen["count"].to_list() == [2, 1, 0, 1, 0, 0]
    assert seen["n"].to_list() == [4] * 6
    sums = table.group_by("setting").agg(pl.col("share").sum())["share"]
    assert sums.to_list() == pytest.approx([1.0, 1.0])
    assert table.columns[-6:] == ["outcome", "n", "count", "share", "low", "high"]


def test_probabilities_are_means_over_rows_that_have_one() -> None:
    table = probability_table(JOINED)
    source = only(table, setting="seen", start_layer=0, concept="source")
    assert source["n"] == 4
    assert source["mean"] == pytest.approx((3 * 0.25 + 1.0) / 4, abs=1e-7)
    assert source["low"] <= source["mean"] <= source["high"]
    later = only(table, setting="seen", start_layer=1, concept="target")
    assert later["mean"] == pytest.approx(0.5, abs=1e-7)  # recorded although nothing was generated
    assert later["low"] is None
    drawn = cluster_bootstrap([0.25, 0.25, 0.25, 1], ["house", "cat", "cat", "hotel"], Bootstrap())
    assert (source["low"], source["high"]) == pytest.approx((drawn.low, drawn.high), abs=1e-7)
    without = probability_table(JOINED.with_columns(log_p_target=pl.lit(None, pl.Float32)))
    assert set(without["concept"]) == {"expected", "source"}


def test_tables_do_not_depend_on_the_order_of_rows_and_keep_that_of_checkpoints() -> None:
    first, second = facts("late", 90), facts("early", 8)
    rows = pl.concat([with_checkpoint(ROWS, first), with_checkpoint(ROWS, second)])
    shuffled = pl.concat(
        [with_checkpoint(ROWS.reverse(), first), with_checkpoint(ROWS.reverse(), second)]
    )
    for make in (accuracy_table, outcomes_table, probability_table):
        table = make(rows)
        assert table.equals(make(shuffled))
        assert table["checkpoint"].unique(maintain_order=True).to_list() == ["late", "early"]


@pytest.mark.parametrize(
    ("make", "schema"),
    [
        (accuracy_table, ACCURACY_SCHEMA),
        (outcomes_table, OUTCOMES_SCHEMA),
        (probability_table, PROBABILITY_SCHEMA),
    ],
)
def test_no_answers_give_an_empty_table_of_the_same_columns(
    make: Callable[[pl.DataFrame], pl.DataFrame], schema: pl.Schema
) -> None:
    full, empty = make(JOINED), make(JOINED.clear())
    assert empty.is_empty()
    assert empty.schema == full.schema == schema


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("item").cast(pl.Int64), "column item should be Int32"),
        (pl.lit("sideways").alias("setting"), "unknown setting 'sideways'"),
        (pl.lit("wrong").alias("outcome"), "unknown outcome 'wrong'"),
        (pl.lit(None, pl.String).alias("answer"), "an answer but no score"),
        (pl.lit(math.nan, pl.Float32).alias("log_p_source"), "not a number in 7 rows"),
    ],
)
def test_rows_that_cannot_be_are_refused(change: pl.Expr, message: str) -> None:
    check_rows(ROWS, "x.parquet")
    with pytest.raises(StudyError, match=f"x.parquet: .*{message}"):
        check_rows(ROWS.with_columns(change), "x.parquet")


def test_a_missing_column_is_named() -> None:
    with pytest.raises(StudyError, match="column answer should be String, is no such column"):
        check_rows(ROWS.drop("answer"), "x.parquet")


def write_patching(folder: Path, checkpoint: str, settings: dict, prompts: str = "a1") -> None:
    """A patching.parquet with its provenance, where the program looks for it."""
    origin = Provenance(
        kind="patching",
        study="demo",
        settings=settings,
        inputs={"prompts": prompts, "weights": checkpoint},
        code="c0de",
        model="demo",
        checkpoint=checkpoint,
    )
    write_table(folder / "demo" / checkpoint / "patching.parquet", ROWS, origin)


def run_program(folder: Path, patching: Path, names: list[str]) -> subprocess.CompletedProcess[str]:
    """Run tabulate_concepts with a sheet of these checkpoints, and of a model that is left out."""
    sheet = folder.with_suffix(".tsv")
    lines = ["model\tcheckpoint\tstep\ttokens\tphase\tsource"]
    lines += [f"demo\t{name}\t{place}\t\t1\tmodels/{name}" for place, name in enumerate(names)]
    lines.append("other\tlate\t1\t\t1\tmodels/other")
    sheet.write_text("\n".join(lines), encoding="utf-8")
    settings = json.dumps(
        {
            "models": ["demo"],
            "trainings": {},
            "pivot": "en",
            "unseen": [],
            "resamples": 50,
            "seed": 1,
        }
    )
    command = [sys.executable, str(PROGRAM), "--settings", settings, "--study", "demo"]
    paths = ["--sheet", sheet, "--patching", patching, "--output", folder]
    return subprocess.run([*command, *paths], capture_output=True, text=True, check=False)


def test_the_program_writes_tables_in_sheet_order_twice_the_same(tmp_path: Path) -> None:
    for checkpoint in ("late", "early"):
        write_patching(tmp_path / "concepts", checkpoint, {"items": 4})
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        done = run_program(folder, tmp_path / "concepts", ["late", "early"])
        assert done.returncode == 0, done.stderr
        contents.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 10
    table = read_table(tmp_path / "a" / "concepts_accuracy.parquet")
    assert table.schema == ACCURACY_SCHEMA
    assert table["checkpoint"].unique(maintain_order=True).to_list() == ["late", "early"]
    assert pl.read_csv(tmp_path / "a" / "concepts_accuracy.csv").height == table.height
    origin = read_provenance(tmp_path / "a" / "concepts_accuracy.parquet")
    assert origin.kind == "concepts_accuracy"
    assert len(origin.inputs) == 2


@pytest.mark.parametrize(
    ("settings", "prompts", "message"),
    [
        ({"items": 5}, "a1", "patching.parquet: made with other settings than"),
        ({"items": 4}, "b2", "patching.parquet: made with other prompts than"),
    ],
)
def test_inputs_that_disagree_give_one_line(
    tmp_path: Path, settings: dict, prompts: str, message: str
) -> None:
    write_patching(tmp_path / "concepts", "early", {"items": 4})
    write_patching(tmp_path / "concepts", "late", settings, prompts)
    done = run_program(tmp_path / "tables", tmp_path / "concepts", ["early", "late"])
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "tables").exists()
