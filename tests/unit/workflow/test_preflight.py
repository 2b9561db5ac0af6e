"""Checks before a run: what stops a plan, what stops only a run, what is not asked for again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import write_json
from glossogenesis.study.loading import load_study
from glossogenesis.workflow import preflight
from support.tiny_checkpoint import save_tiny_checkpoint
from support.tiny_features_study import tiny_features_study
from support.tiny_study import replace, tiny_study


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def weights(saved: Path, tmp_path: Path) -> Path:
    """The folders that the tiny study's sheet names."""
    for name in ("early", "late"):
        shutil.copytree(saved, tmp_path / "weights" / name)
    return tmp_path / "weights"


@pytest.mark.usefixtures("weights")
def test_good_study(tmp_path: Path) -> None:
    study = tiny_study(tmp_path)
    preflight.check(study)
    assert preflight.absent(study, tmp_path / "results") is None
    preflight.check_files(study, tmp_path / "results")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("\t0\t0\t1\tpretrain", "\t0\t0\t2\tpretrain", r"'start' has phase 2, but .* makes 1 of"),
        ("\t8\t\t1\tpretrain", "\t8\t9\t1\tpretrain", r"'end' has tokens 9, but .* makes 32768 of"),
    ],
)
def test_the_sheet_agrees_with_the_pretraining(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    tiny_study(tmp_path)
    replace(tmp_path / "sheet.tsv", old, new)
    with pytest.raises(StudyError, match=expected):
        preflight.check(load_study(tmp_path / "study.yaml"))


def test_a_study_may_be_planned_before_its_files_are_there(tmp_path: Path) -> None:
    study = tiny_study(tmp_path)
    (tmp_path / "lexicon.tsv").unlink()
    preflight.check(study)
    with pytest.raises(
        StudyError, match=r"lexicon.tsv: no such lexicon; .* \(2 more not in place\)"
    ):
        preflight.check_files(study, tmp_path / "results")


def test_checkpoints_already_taken_up_are_not_asked_for(tmp_path: Path, weights: Path) -> None:
    study = tiny_study(tmp_path)
    shutil.rmtree(weights / "early")
    results = tmp_path / "results"
    line = preflight.absent(study, results)
    assert line is not None
    assert "weights/early: no such folder" in line
    assert "checkpoint 'early'; put the checkpoint there or correct `source`" in line
    write_json(results / "checkpoints" / "local" / "early" / "manifest.json", {})
    preflight.check_files(study, results)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda s: s["concepts"].update(start_layers=[0, 2]),
            r"`concepts.start_layers` names layer 2, but the last of model 'small' is 1; layers",
        ),
        (
            lambda s: s["concepts"].update(figure_start_layer=5),
            r"`concepts.figure_start_layer` names layer 5",
        ),
        (
            lambda s: s["concepts"].update(target_pairs=[["es", "fi"]]),
            r"asks for `seen`, but no two seen languages remain beside the target pair es-fi",
        ),
        (
            lambda s: s["concepts"].update(few_shot=8),
            r"lexicon.tsv: 16 usable concepts, but an item needs 18 \(two and 8 demonstrations",
        ),
        (
            lambda s: s["concepts"].update(items=241),
            r"`concepts.items` is 241, but 16 concepts make only 240 ordered pairs; lower it",
        ),
        (
            lambda s: s["lexicon"].update(limit=40),
            r"16 usable concepts, but `lexicon.limit` asks for 40",
        ),
        (
            lambda s: s["pretrain"]["small"].update(
                text={"kind": "files", "files": {"en": {1: ["none.txt"]}}}
            ),
            r"none.txt: no such text file; correct `pretrain.small.text`",
        ),
    ],
)
def test_mistakes_stop_a_plan(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    study = tiny_study(tmp_path, change)
    with pytest.raises(StudyError, match=expected):
        preflight.check(study)


def test_without_concepts_only_files_count(tmp_path: Path) -> None:
    preflight.check(tiny_study(tmp_path, lambda s: s["concepts"].update(enabled=False, items=999)))
    preflight.check(tiny_study(tmp_path, lambda s: s.pop("concepts")))


def test_layers_of_a_local_model(tmp_path: Path, weights: Path) -> None:
    study = tiny_study(tmp_path, lambda s: s["concepts"].update(figure_start_layer=1))
    config = json.loads((weights / "late" / "config.json").read_text())
    (weights / "late" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(StudyError, match=r"names layer 1, but the last of model 'local' is 0"):
        preflight.check_files(study, tmp_path / "results")


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    study = tiny_study(tmp_path)
    replace(tmp_path / "sheet.tsv", "./weights/late\t", "./weights/late\tmain")
    with pytest.raises(StudyError, match=r"'late' is the folder './weights/late' and has revision"):
        preflight.check_files(load_study(study.file), tmp_path / "results")


@pytest.mark.usefixtures("weights")
def test_activations_that_do_not_fit_the_disk_stop_a_run_with_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_features_study(tmp_path, lambda s: s["models"]["local"].update(n_layers=4))
    preflight.check_files(study, tmp_path / "results")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StudyError, match=r"activations of 4 checkpoints will take .*mode: stream"):
        preflight.check_files(study, tmp_path / "results")


def test_a_missing_text_of_a_corpus_stops_a_plan(tmp_path: Path) -> None:
    study = tiny_features_study(tmp_path)
    (tmp_path / "ru.txt").unlink()
    with pytest.raises(StudyError, match=r"ru.txt: no such text file; correct `corpora.text.text"):
        preflight.check(study)


@pytest.mark.usefixtures("weights")
def test_parallel_text_that_is_not_in_place_is_named_before_a_run(tmp_path: Path) -> None:
    def translating(content: dict[str, Any]) -> None:
        files = {"en-ru": ["test.en", "test.ru"], "ru-en": ["test.ru", "test.en"]}
        content["features"]["injection"]["translation"] = {"files": files}

    study = tiny_features_study(tmp_path, translating)
    (tmp_path / "test.en").write_text("a cat\n", encoding="utf-8")
    expected = (
        r"test.ru: no such file; .* `features.injection.translation.files.en-ru` in .* \(1 more"
    )
    with pytest.raises(StudyError, match=expected):
        preflight.check_files(study, tmp_path / "results")
    (tmp_path / "test.ru").write_text("кошка\n", encoding="utf-8")
    assert preflight.absent(study, tmp_path / "results") is None
