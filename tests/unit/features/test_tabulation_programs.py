"""The programs that gather a features study: order, agreement of inputs, equal bytes."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import polars as pl
import pytest

from glossogenesis.storage.tables import read_provenance, read_table, write_table
from support.feature_results import (
    CODES,
    SIMILARITIES_VALUE,
    matches,
    origin,
    statistics,
    write_injections,
    write_sheet,
    write_study,
)

SCRIPTS = Path(__file__).parents[3] / "workflow_scripts"
CHECKPOINTS = ["step0", "step8", "step16", "step32"]
SETTINGS = {
    "checkpoints": {"small": CHECKPOINTS[1:], "demo": CHECKPOINTS},
    "layers": {"small": [1], "demo": [1, 3]},
    "saes": ["topk"],
    "extra_seeds": {"topk": []},
    "depths": {"small": None, "demo": 4},
    "rows": {"small": 4, "demo": 4},
    "grid": None,
    "languages": list(CODES),
    "recovery": True,
    "resamples": 100,
    "seed": 0,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    for model in ("small", "demo"):
        rows = SETTINGS["checkpoints"][model]
        write_study(folder / "results", rows, SETTINGS["layers"][model], model=model)
    write_injections(folder / "results", CHECKPOINTS[:-1])
    write_sheet(folder / "sheet.tsv", ["demo", "small"], CHECKPOINTS)
    return folder


def run(
    monkeypatch: pytest.MonkeyPatch, program: str, settings: dict, study: Path, output: Path
) -> None:
    words = [program, "--settings", json.dumps(settings), "--study", "demo"]
    words += ["--sheet", study / "sheet.tsv", "--results", study / "results", "--output", output]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    runpy.run_path(str(SCRIPTS / f"{program}.py"), run_name="__main__")


def test_features_are_tabulated_in_order_twice_the_same(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        run(monkeypatch, "tabulate_features", SETTINGS, study, tmp_path / name)
    written = sorted(path.name for path in (tmp_path / "a").iterdir())
    kinds = ("grid", "languages", "monosemanticity", "quality", "sensitivity", "stages")
    assert written == [f"features_{kind}.{end}" for kind in kinds for end in ("csv", "parquet")]
    for name in written:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    languages = read_table(tmp_path / "a" / "features_languages.parquet")
    order = languages.select("model", "checkpoint").unique(maintain_order=True).rows()
    assert order == [
        (model, name) for model, names in SETTINGS["checkpoints"].items() for name in names
    ]
    of_demo = languages.filter(model="demo", checkpoint="step8", label="bilingual")
    assert of_demo.select("layer", "depth").rows() == [
        *((1, "early"), (3, "late"), (None, "early"), (None, "late"), (None, "all"))
    ]
    stages = read_table(tmp_path / "a" / "features_stages.parquet")
    assert stages["choice"].unique(maintain_order=True).to_list() == [
        *("default", "by", "share", "population")
    ]
    grid = read_table(tmp_path / "a" / "features_grid.parquet")
    assert grid.select("model", "setups", "grid").rows() == [
        *(("small", 3, 4), ("demo", 8, 16), ("all", 11, 20))
    ]
    found = read_provenance(tmp_path / "a" / "features_stages.parquet")
    assert found.kind == "features_stages"
    assert len(found.inputs) == 3 * (3 + 2 * 4) + 3 + 4
    quality = read_table(tmp_path / "a" / "features_quality.parquet")
    assert quality["recovered"].null_count() == 0


def test_a_file_made_in_another_way_is_named(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    other = study / "results/features/demo/step16/layer_3/topk/statistics.parquet"
    kept = other.read_bytes()
    write_table(other, statistics(0.2), origin("other"))
    try:
        with pytest.raises(SystemExit):
            run(monkeypatch, "tabulate_features", SETTINGS, study, tmp_path / "tables")
    finally:
        other.write_bytes(kept)
    said = capsys.readouterr().err.strip().splitlines()
    assert "step16/layer_3/topk/statistics.parquet: made with other settings than" in said[-1]
    assert not (tmp_path / "tables").exists()


def test_tracking_starts_at_the_second_checkpoint(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run(monkeypatch, "tabulate_tracking", SETTINGS, study, tmp_path)
    table = read_table(tmp_path / "features_tracking.parquet")
    pairs = table.select("model", "earlier_checkpoint", "checkpoint").unique(maintain_order=True)
    assert pairs.rows() == [
        ("small", "step8", "step16"),
        ("small", "step16", "step32"),
        ("demo", "step0", "step8"),
        ("demo", "step8", "step16"),
        ("demo", "step16", "step32"),
    ]
    assert set(table["mmcs_to_earlier"]) == {SIMILARITIES_VALUE}
    skipping = SETTINGS | {"checkpoints": {"demo": ["step0", "step16"]}}
    with pytest.raises(SystemExit):
        run(monkeypatch, "tabulate_tracking", skipping, study, tmp_path / "other")
    assert "matched with checkpoint 'step8', but 'step0' comes before" in capsys.readouterr().err
    alone = SETTINGS | {"checkpoints": {"demo": ["step0"]}}
    run(monkeypatch, "tabulate_tracking", alone, study, tmp_path / "alone")
    assert read_table(tmp_path / "alone" / "features_tracking.parquet").schema == table.schema


def test_injections_are_stacked_over_targets(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    settings = {"model": "demo", "sae": "topk", "source": "step32", "targets": CHECKPOINTS[:-1]}
    run(monkeypatch, "tabulate_injection", settings, study, tmp_path)
    table = read_table(tmp_path / "features_injection.parquet")
    assert table["checkpoint"].unique(maintain_order=True).to_list() == CHECKPOINTS[:-1]
    assert set(table["measure"]) == {"perplexity", "bleu", "chrf"}
    assert set(table["source"]) == {"step32"}
    assert pl.read_csv(tmp_path / "features_injection.csv").height == table.height
    with pytest.raises(SystemExit):
        run(monkeypatch, "tabulate_injection", settings | {"targets": ["x"]}, study, tmp_path)
    assert "no checkpoint 'x' of model 'demo'" in capsys.readouterr().err


def test_matches_of_no_features_can_be_tabulated(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = study / "results/tracking/small/step16/layer_1/topk/matches.parquet"
    facts = read_provenance(path).facts
    write_table(path, matches(10, 0).clear(), origin("matches", **facts))
    run(monkeypatch, "tabulate_tracking", SETTINGS, study, tmp_path)
    table = read_table(tmp_path / "features_tracking.parquet")
    assert table.filter(model="small", checkpoint="step16")["count"].to_list() == [0, 0, 0]
