"""Section `hub` and `remote_code`: what they default to, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.hub.files import is_commit
from glossogenesis.study.inputs import WORDS_OF_MODES, HubSettings
from glossogenesis.study.loading import load_study
from glossogenesis.study.study import Study
from glossogenesis.workflow.jobs_concepts import checkpoint_settings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STUDY = """\
study: hub
checkpoints: sheet.tsv
languages: {en: {endonym: English, script: Latin, group: seen}}
models: {m: {parameters: 1e6MORE}}
"""


def study(folder: Path, more: str = "", *, source: str = "org/name", revision: str = "") -> Study:
    sheet = f"model\tcheckpoint\tstep\tsource\trevision\nm\tlate\t1\t{source}\t{revision}\n"
    (folder / "sheet.tsv").write_text(sheet, encoding="utf-8")
    (folder / "study.yaml").write_text(STUDY.replace("MORE", more), encoding="utf-8")
    return load_study(folder / "study.yaml")


def test_downloads_stay_and_the_network_is_used_by_default(tmp_path: Path) -> None:
    assert study(tmp_path).settings.hub == HubSettings(offline=False, keep_downloads=True)


def test_the_section_survives_as_a_word() -> None:
    sections = [HubSettings(offline=o, keep_downloads=k) for o in (0, 1) for k in (0, 1)]
    assert sorted(section.mode for section in sections) == sorted(WORDS_OF_MODES)
    assert [HubSettings.of_mode(section.mode) for section in sections] == sections


def test_full_commits_are_told_from_branches() -> None:
    assert is_commit(COMMIT)
    for revision in (None, "main", COMMIT[:12], COMMIT.upper(), f"{COMMIT}0", "step-143000"):
        assert not is_commit(revision)


def test_settings_of_a_checkpoint_name_code_only_where_it_is_allowed(tmp_path: Path) -> None:
    """So that nothing is fetched again in a study that allows none."""
    assert set(checkpoint_settings(study(tmp_path), "m", "late")) == {
        "source", "revision", "subfolder", "tokenizer", "step",
    }  # fmt: skip
    allowed = study(tmp_path, ", remote_code: org/name", revision=COMMIT)
    assert checkpoint_settings(allowed, "m", "late")["remote_code"] == "org/name"


@pytest.mark.parametrize(
    ("source", "revision", "message"),
    [
        ("org/name", "main", "revision 'main', but code is only run from a full commit"),
        ("org/name", "", "revision None, but code is only run from a full commit"),
        ("org/other", COMMIT, "source 'org/other', but `models.m.remote_code` allows"),
        ("./org/name", "", "source './org/name', but `models.m.remote_code` allows"),
    ],
)
def test_code_is_allowed_of_one_repository_at_commits(
    tmp_path: Path, source: str, revision: str, message: str
) -> None:
    with pytest.raises(StudyError, match=r"sheet.tsv: checkpoint 'late'.*") as raised:
        study(tmp_path, ", remote_code: org/name", source=source, revision=revision)
    assert message in str(raised.value)


@pytest.mark.parametrize("written", ["true", "name", "./org/name", "org/name/more", "org/na me"])
def test_code_is_allowed_by_the_name_of_a_repository(tmp_path: Path, written: str) -> None:
    with pytest.raises(StudyError, match=r"models.m.remote_code"):
        study(tmp_path, f", remote_code: {written}", revision=COMMIT)
