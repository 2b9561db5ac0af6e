"""The copy of a study that a run's jobs read says the same as the study, whatever becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from glossogenesis.study.frozen import FrozenStudy, freeze
from glossogenesis.study.loading import check_study, load_study
from glossogenesis.study.study import Study
from support.tiny_study import replace, write_tiny_study


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_tiny_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path("study.yaml")


def frozen(file: Path) -> FrozenStudy:
    study = load_study(file)
    config = yaml.safe_load(file.read_text("utf-8"))
    return freeze(config, study.name, study.file, study.sheet, Path("results"))


def read(copy: FrozenStudy) -> Study:
    return check_study(yaml.safe_load(copy.file.read_text("utf-8")), copy.file)


def test_the_copy_is_read_as_the_study(file: Path):
    study = load_study(file)
    copy = frozen(file)
    copy.write()
    assert read(copy) == study


def test_the_copy_keeps_what_the_study_said(file: Path):
    study = load_study(file)
    copy = frozen(file)
    copy.write()
    replace(file, "few_shot: 2", "few_shot: 3")
    Path(study.path(study.settings.checkpoints)).write_text("nothing", encoding="utf-8")
    assert read(copy) == study


def test_the_same_study_is_the_same_run(file: Path):
    assert frozen(file).folder == frozen(file).folder


def test_a_changed_study_is_another_run(file: Path):
    before = frozen(file).folder
    replace(file, "few_shot: 2", "few_shot: 3")
    assert frozen(file).folder != before
    assert before.name.startswith(f"{load_study(file).name}-")


def test_a_changed_sheet_is_another_run(file: Path):
    before = frozen(file).folder
    study = load_study(file)
    sheet = Path(study.path(study.settings.checkpoints))
    sheet.write_text(sheet.read_text("utf-8").replace("late", "latest"), encoding="utf-8")
    assert frozen(file).folder != before


def test_a_frozen_study_frozen_again_is_the_same_run(file: Path):
    copy = frozen(file)
    copy.write()
    again = frozen(copy.file)
    assert (again.study, again.sheet, again.folder) == (copy.study, copy.sheet, copy.folder)


def test_numbers_stay_numbers(file: Path):
    config = {**yaml.safe_load(file.read_text("utf-8")), "shares": {1: 0.5}, "when": ("a", None)}
    study = load_study(file)
    copy = freeze(config, study.name, study.file, study.sheet, Path("results"))
    content = yaml.safe_load(copy.study)
    assert (content["shares"], content["when"]) == ({1: 0.5}, ["a", None])
