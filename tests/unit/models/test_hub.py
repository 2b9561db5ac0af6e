"""Checkpoints of the Hub: which files, which commit, offline, and fetched again after removal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.hub.files import KeptRevision, keep_revision, moved, revision_file
from glossogenesis.models.checkpoints import CheckpointLocation, HubAccess, local_files
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest, describe_checkpoint
from glossogenesis.workflow.disk import remove_weights
from support.hub_server import HubServer, connected_hub
from support.tiny_checkpoint import save_tiny_checkpoint

NAME = "someone/model"
HERE = CheckpointLocation(NAME)
LATE = ("m", "late")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def hub(tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with connected_hub(monkeypatch, tmp_path) as hub:
        hub.repository(NAME).commit_folder(saved)
        yield hub


@pytest.fixture
def access(tmp_path: Path) -> HubAccess:
    """Downloads are removed after use."""
    results = tmp_path / "results"
    return HubAccess(
        folder=results / "downloads" / "m" / "late", record=revision_file(results, "m", "late")
    )


def describe(access: HubAccess, location: CheckpointLocation = HERE) -> CheckpointManifest:
    return describe_checkpoint(
        location,
        model="m",
        checkpoint="late",
        source=location.source,
        provenance={},
        access=access,
    )


def files_of(saved: Path, prefix: str = "") -> dict[str, bytes]:
    return {f"{prefix}{path.name}": path.read_bytes() for path in saved.iterdir()}


def test_only_what_is_needed_is_downloaded(hub: HubServer, saved: Path) -> None:
    more = ("pytorch_model.bin", "README.md", "modeling.py", "old/model.safetensors", "a/b.json")
    hub.repository(NAME).commit({**files_of(saved), **dict.fromkeys(more, b"x")})
    found = local_files(HERE)
    assert set(hub.fetched()) == {path.name for path in saved.iterdir()}
    assert found.commit == hub.repository(NAME).refs["main"]
    assert found.folder.name == found.commit
    hub.requests.clear()
    local_files(HERE)
    assert hub.fetched() == {}


def test_without_weights_none_are_downloaded(hub: HubServer) -> None:
    local_files(HERE, weights=False)
    assert "model.safetensors" not in hub.fetched()


def test_a_subfolder_shares_the_tokenizer_of_the_root(hub: HubServer, saved: Path) -> None:
    files = files_of(saved, "step-8/") | files_of(saved, "step-9/")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        del files[f"step-8/{name}"]
        files[name] = (saved / name).read_bytes()
    hub.repository(NAME).commit(files)
    found = local_files(CheckpointLocation(NAME, subfolder="step-8"))
    assert found.folder.name == "step-8"
    assert found.tokenizer_folder == found.folder.parent
    assert not any(name.startswith("step-9") for name in hub.fetched())
    own = local_files(CheckpointLocation(NAME, subfolder="step-9"))
    assert own.tokenizer_folder == own.folder
    with pytest.raises(StudyError, match="no subfolder 'step-7'; fix the sheet"):
        local_files(CheckpointLocation(NAME, subfolder="step-7"))


def test_an_unsupported_architecture_is_refused_before_its_weights(
    hub: HubServer, saved: Path
) -> None:
    hub.repository(NAME).commit({**files_of(saved), "config.json": b'{"model_type": "olmo3"}'})
    with pytest.raises(StudyError, match=r"config.json: architecture 'olmo3' is not .*olmo2"):
        local_files(HERE)
    assert "config.json" in hub.fetched()
    assert "model.safetensors" not in hub.fetched()


def test_pickles_are_refused_before_anything_is_downloaded(hub: HubServer) -> None:
    hub.repository(NAME).commit({"pytorch_model.bin": b"x", "config.json": b"{}"})
    with pytest.raises(StudyError, match=r"weights are pickles \(pytorch_model.bin\)"):
        local_files(HERE)
    hub.repository(NAME).commit({"config.json": b"{}"})
    with pytest.raises(StudyError, match=r"no model.safetensors.index.json and no model.safe"):
        local_files(HERE)
    assert hub.fetched() == {}


def test_a_branch_that_moved_is_said_and_not_taken(
    hub: HubServer, saved: Path, access: HubAccess, capsys: pytest.CaptureFixture
) -> None:
    first = describe(access)
    assert moved(access.record.parents[2], [LATE]) == []
    later = hub.repository(NAME).commit({**files_of(saved), "model.safetensors": b"new"})
    again = describe(access)
    assert again == first
    assert again.commit != later
    said = capsys.readouterr().err
    assert f"someone/model@main has moved from {first.commit[:12]} to {later[:12]}" in said
    (line,) = moved(access.record.parents[2], [LATE])
    assert line.startswith("m late: someone/model@main has moved")
    assert first.commit in line


def test_branches_are_looked_at_for_rows_of_the_sheet_and_past_damaged_records(
    tmp_path: Path,
) -> None:
    has_moved = KeptRevision(NAME, None, "a" * 40, moved_to="b" * 40)
    for checkpoint in ("early", "late", "dropped"):
        keep_revision(revision_file(tmp_path, "m", checkpoint), has_moved)
    keep_revision(revision_file(tmp_path, "text"), has_moved)
    damaged = revision_file(tmp_path, "m", "early")
    damaged.write_text("{", encoding="utf-8")
    first, second, third = moved(tmp_path, [("m", "early"), LATE, ("m", "new"), ("text",)])
    assert first.startswith(f"{damaged}: not valid JSON")
    assert second.startswith("m late: someone/model@main has moved")
    assert third.startswith("text: someone/model@main has moved")


def test_a_commit_written_as_revision_is_taken_and_settles_the_matter(
    hub: HubServer, saved: Path, access: HubAccess
) -> None:
    first = describe(access).commit
    later = hub.repository(NAME).commit({**files_of(saved), "generation_config.json": b"{}"})
    describe(access)
    manifest = describe(access, CheckpointLocation(NAME, revision=later))
    assert manifest.commit == later != first
    assert access.record is not None
    assert moved(access.record.parents[2], [LATE]) == []


def test_a_damaged_record_of_revisions_is_not_passed_over(
    hub: HubServer, access: HubAccess
) -> None:
    assert access.record is not None
    access.record.parent.mkdir(parents=True)
    one = '{"revisions": [{"source": "x"}]}'
    other = '{"revisions": [{"source": "x", "revision": null, "commit": 1}]}'
    for text in (one, other, "[]", "{"):
        access.record.write_text(text, encoding="utf-8")
        with pytest.raises(StudyError, match=r"late\.json"):
            describe(access)


def test_a_moved_branch_that_moves_back_is_no_longer_said(
    hub: HubServer, saved: Path, access: HubAccess
) -> None:
    first = describe(access).commit
    repository = hub.repository(NAME)
    repository.commit({**files_of(saved), "model.safetensors": b"new"})
    describe(access)
    repository.refs["main"] = first
    describe(access)
    assert moved(access.record.parents[2], [LATE]) == []


def test_offline_takes_what_is_in_the_cache(
    hub: HubServer, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = local_files(HERE)
    hub.requests.clear()
    offline = HubAccess(offline=True)
    assert local_files(HERE, access=offline) == online
    assert local_files(CheckpointLocation(NAME, online.commit), access=offline) == online
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert local_files(HERE) == online
    assert hub.requests == []
    # What the study has kept counts more than what the cache knows of a branch.
    record = HubAccess(offline=True, record=revision_file(tmp_path, "m", "late"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    local_files(HERE, access=HubAccess(record=record.record))
    hub.repository(NAME).commit({**files_of(saved), "README.md": b"moved"})
    local_files(HERE)
    assert local_files(HERE, access=record) == online


def test_a_commit_that_was_found_offline_is_kept_for_later_fetches(
    hub: HubServer, saved: Path, access: HubAccess, capsys: pytest.CaptureFixture
) -> None:
    local_files(HERE)
    first = describe(replace(access, offline=True))
    later = hub.repository(NAME).commit({**files_of(saved), "README.md": b"moved"})
    again = describe(access)
    assert (again.commit, again.weights) == (first.commit, first.weights)
    said = capsys.readouterr().err
    assert f"someone/model@main has moved from {str(first.commit)[:12]} to {later[:12]}" in said


def test_offline_says_what_the_cache_lacks(hub: HubServer) -> None:
    offline = HubAccess(offline=True)
    with pytest.raises(StudyError, match=r"offline, and .* no weights of this revision.*`hub.offl"):
        local_files(HERE, access=offline)
    with pytest.raises(StudyError, match="neither a folder nor a Hub id"):
        local_files(CheckpointLocation("no id at all"), access=offline)
    online = local_files(HERE, weights=False)
    with pytest.raises(StudyError, match=rf"offline, and .* no weights of {online.commit}"):
        local_files(HERE, access=offline)
    assert local_files(HERE, weights=False, access=offline) == online
    with pytest.raises(StudyError, match=r"no files of 0000"):
        local_files(CheckpointLocation(NAME, "0" * 40), weights=False, access=offline)


def test_removed_weights_are_fetched_again_by_the_recorded_commit(
    hub: HubServer, saved: Path, access: HubAccess, tmp_path: Path
) -> None:
    manifest, path = describe(access), tmp_path / "manifest.json"
    manifest.write(path)
    assert access.folder is not None
    downloads = access.folder.parents[1]
    left = access.folder / ".cache" / "huggingface" / "download" / "killed.incomplete"
    left.write_bytes(b"half")
    expected = {"model.safetensors": (saved / "model.safetensors").stat().st_size}
    assert remove_weights(manifest, downloads) == expected
    assert remove_weights(manifest, downloads) == expected
    assert not (access.folder / "model.safetensors").exists()
    assert not left.exists()
    # The tokenizer is still there.
    hub.requests.clear()
    load_tokenizer(CheckpointManifest.read(path, weights=False).tokenizer_location)
    assert hub.requests == []
    hub.repository(NAME).commit({**files_of(saved), "model.safetensors": b"new"})
    assert CheckpointManifest.read(path) == manifest
    assert hub.fetched() == {"model.safetensors": 1}
    load_model(manifest.location, device="cpu")


def test_what_comes_back_must_have_the_recorded_digest(
    hub: HubServer, saved: Path, access: HubAccess, tmp_path: Path
) -> None:
    manifest, path = describe(access), tmp_path / "manifest.json"
    manifest.write(path)
    assert access.folder is not None
    remove_weights(manifest, access.folder.parents[1])
    assert manifest.commit is not None
    other = (saved / "model.safetensors").read_bytes()[:-1] + b"x"
    hub.repository(NAME).commits[manifest.commit]["model.safetensors"] = other
    with pytest.raises(StudyError, match=r"is not the one that .*manifest.json records"):
        CheckpointManifest.read(path)


def test_offline_weights_do_not_come_back(
    hub: HubServer, access: HubAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, path = describe(access), tmp_path / "manifest.json"
    manifest.write(path)
    assert access.folder is not None
    remove_weights(manifest, access.folder.parents[1])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StudyError, match="forbids to fetch someone/model@"):
        CheckpointManifest.read(path)


def test_a_cache_that_was_cleared_is_no_loss(hub: HubServer, saved: Path, tmp_path: Path) -> None:
    hub.repository(NAME).commit(files_of(saved, "step-8/"))
    manifest = describe(HubAccess(), CheckpointLocation(NAME, subfolder="step-8"))
    path = tmp_path / "manifest.json"
    manifest.write(path)
    shutil.rmtree(tmp_path / "hub")
    hub.requests.clear()
    load_tokenizer(CheckpointManifest.read(path, weights=False).tokenizer_location)
    assert "step-8/model.safetensors" not in hub.fetched()
    assert CheckpointManifest.read(path) == manifest
    load_model(manifest.location, device="cpu")


def test_only_downloads_of_the_study_are_removed(
    hub: HubServer, saved: Path, access: HubAccess
) -> None:
    assert access.folder is not None
    in_cache = describe(HubAccess())
    assert remove_weights(in_cache, access.folder.parents[1]) == {}
    own = describe(HubAccess(), CheckpointLocation(str(saved)))
    assert remove_weights(own, saved.parent) == {}
    assert all(path.is_file() for path in (*in_cache.weight_files, *own.weight_files))


def test_a_tokenizer_from_the_hub_has_a_kept_revision_too(
    hub: HubServer, saved: Path, access: HubAccess
) -> None:
    hub.repository("other/tokenizer").commit_folder(saved)
    manifest = describe_checkpoint(
        HERE,
        model="m",
        checkpoint="late",
        source=NAME,
        provenance={},
        tokenizer=CheckpointLocation("other/tokenizer"),
        access=access,
    )
    assert "models--other--tokenizer" in manifest.tokenizer_folder
    assert access.record is not None
    kept = json.loads(access.record.read_text(encoding="utf-8"))["revisions"]
    assert [one["source"] for one in kept] == [NAME, "other/tokenizer"]
