"""The timeline of a run, from two records of Snakemake and benchmark files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from timeline import RecordedJob, draw, idle_seconds, lanes_of, recorded_jobs, summary

JOBS = [
    RecordedJob("pretrain_model", 0.0, 10.0, 9.0),
    RecordedJob("train_saes", 1.0, 4.0, 2.0),
    RecordedJob("train_saes", 6.0, 9.0, 2.0),
    RecordedJob("plot_cues", 10.0, 12.0, 1.5),
]


def record(folder: Path, output: str, rule: str, log: str, start: float, end: float) -> None:
    file = folder / ".snakemake" / "metadata" / output
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"rule": rule, "log": [f"logs/{log}.log"], "starttime": start, "endtime": end}
    file.write_text(json.dumps(content), encoding="utf-8")
    table = folder / "measured" / f"{log}.tsv"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("s\tcpu_time\n2.5\t1.5\n", encoding="utf-8")


def test_a_job_lasts_until_its_last_output(tmp_path: Path) -> None:
    record(tmp_path, "a", "train_saes_1", "train_saes/m/topk", 100.0, 103.0)
    # Snakemake splits long names into folders.
    record(tmp_path, "@long/name", "train_saes_1", "train_saes/m/topk", 100.0, 104.0)
    record(tmp_path, "b", "pretrain_model", "pretrain_model/m", 90.0, 100.0)
    assert recorded_jobs(tmp_path, "logs", "measured") == [
        RecordedJob("pretrain_model", 0.0, 10.0, 1.5),
        RecordedJob("train_saes", 10.0, 14.0, 1.5),
    ]


def test_jobs_that_ran_at_once_are_on_different_cores() -> None:
    assert lanes_of(JOBS) == [0, 1, 1, 0]


def test_idle_seconds_count_cores_without_a_job() -> None:
    # The second core waits from 0 to 1, 4 to 6, 9 to 10, and 10 to 12.
    assert idle_seconds(JOBS, 2) == pytest.approx(6.0)
    assert summary(JOBS, 2) == "4 jobs, 12 s on 2 cores, 14 CPU s (60% of the cores), 6 core s idle"


def test_the_picture_names_the_rules(tmp_path: Path) -> None:
    draw(JOBS, 2, tmp_path / "timeline.svg")
    picture = (tmp_path / "timeline.svg").read_text(encoding="utf-8")
    for text in ("pretrain_model", "train_saes", "plot_cues", "core 2", "6 core s idle"):
        assert text in picture
