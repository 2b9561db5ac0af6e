"""Continued pretraining in a study: where it may start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.study.study import Study
from glossogenesis.workflow import costs
from glossogenesis.workflow.jobs_concepts import pretrain_settings
from support.tiny_study import SHEET, tiny_study, write_tiny_study


def continued(
    folder: Path, start: dict[str, str], change: Callable[[dict[str, Any]], object] = lambda _: None
) -> Study:
    """The tiny study with a model `more` that goes on from another's checkpoint."""
    write_tiny_study(folder)

    def extend(content: dict[str, Any]) -> None:
        # `tiny_study` wrote the sheet again; the row of the continued model goes below.
        (folder / "sheet.tsv").write_text(SHEET + "more\tlast\t4\t\t1\tpretrain:more\t\t\n")
        content["models"]["more"] = {"gpus": 0}
        content["pretrain"]["more"] = {
            "start": start,
            "text": {"kind": "demo", "phases": {1: {"pairs": "all"}}},
            "shares": {"en": {1: 0.5}, "fi": {1: 0.5}},
            "steps": {1: 4},
            "saved_steps": [4],
        }
        change(content)

    return tiny_study(folder, extend)


def test_sizes_are_those_of_the_start(tmp_path: Path) -> None:
    study = continued(tmp_path, {"model": "small", "checkpoint": "end"})
    assert study.depth_of("more") == 2
    assert costs.depth_and_width(study, "more") == (2, 16)
    assert costs.parameters_of(study, "more") == costs.parameters_of(study, "small")
    assert costs.pretraining_cost(study, "more").memory_mb >= costs.PROGRAM_MB


def test_its_own_shares_take_the_place_of_the_languages(tmp_path: Path) -> None:
    study = continued(tmp_path, {"model": "small", "checkpoint": "end"})
    settings = pretrain_settings(study, "more")
    assert settings["shares"] == {"en": {"1": 0.5}, "fi": {"1": 0.5}}
    assert settings["lexicon"]["languages"] == ["en", "fi"]
    assert "model" not in settings["training"]
    assert set(pretrain_settings(study, "small")["shares"]) == {"en", "es", "fi", "ru"}


def test_a_start_that_is_not_in_the_sheet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"`pretrain.more.start` names checkpoint 'never'"):
        continued(tmp_path, {"model": "small", "checkpoint": "never"})


def test_a_circle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"goes in a circle \(more from more\)"):
        continued(tmp_path, {"model": "more", "checkpoint": "last"})


def test_a_start_from_elsewhere_needs_the_number_of_weights(tmp_path: Path) -> None:
    start = {"model": "local", "checkpoint": "late"}
    with pytest.raises(StudyError, match=r"`models.more.parameters` is missing"):
        continued(tmp_path, start)
    study = continued(
        tmp_path, start, lambda content: content["models"]["more"].update(parameters=1e8)
    )
    assert study.size_of("more") is None
    assert costs.pretraining_cost(study, "more").disk_bytes == 4e8
