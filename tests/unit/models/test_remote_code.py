"""Code of a model's repository: run only where the study names the repository."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from glossogenesis.exceptions import StudyError
from glossogenesis.models.checkpoints import CheckpointLocation, local_files
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.models.manifest import describe_checkpoint
from support.hub_server import HubServer, connected_hub
from support.tiny_checkpoint import save_tiny_checkpoint

NAME = "someone/model"
MODELING = """
from pathlib import Path
from transformers import LlamaForCausalLM

Path({ran!r}).touch()


class OwnModel(LlamaForCausalLM):
    pass
"""


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """The file that the repository's code makes when it is run."""
    return tmp_path / "ran"


@pytest.fixture
def folder(tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))
    folder = save_tiny_checkpoint(tmp_path / "with_code")
    (folder / "modeling.py").write_text(MODELING.format(ran=str(ran)), encoding="utf-8")
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling.OwnModel"})
    return folder


@pytest.fixture
def hub(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with connected_hub(monkeypatch, tmp_path) as hub:
        hub.repository(NAME).commit_folder(folder)
        yield hub


def edit(path: Path, **keys: object) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **keys}), encoding="utf-8")


def test_code_is_neither_downloaded_nor_run_unless_named(hub: HubServer, ran: Path) -> None:
    location = CheckpointLocation(NAME)
    loaded = load_model(location, device="cpu")
    assert "modeling.py" not in hub.fetched()
    assert type(loaded.model).__name__ == "LlamaForCausalLM"
    assert not ran.exists()


def test_named_code_is_downloaded_recorded_and_run(hub: HubServer, ran: Path) -> None:
    commit = hub.repository(NAME).refs["main"]
    manifest = describe_checkpoint(
        CheckpointLocation(NAME, commit, remote_code=NAME),
        model="m",
        checkpoint="late",
        source=NAME,
        provenance={},
    )
    assert manifest.remote_code == NAME
    assert hub.fetched()["modeling.py"] == 1
    loaded = load_model(manifest.location, device="cpu")
    assert type(loaded.model).__name__ == "OwnModel"
    assert ran.exists()
    load_tokenizer(manifest.tokenizer_location)


def test_code_of_a_third_repository_is_refused(folder: Path, ran: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "evil/code--modeling.OwnModel"})
    location = CheckpointLocation(str(folder), remote_code=NAME)
    with pytest.raises(StudyError, match=r"code from another place \(evil/code--modeling.OwnMod"):
        load_model(location, device="cpu")
    assert not ran.exists()


def test_a_tokenizer_that_needs_code_says_how_to_allow_it(folder: Path, ran: Path) -> None:
    shutil.copy(folder / "modeling.py", folder / "tokenization.py")
    (folder / "tokenizer.json").unlink()
    names = ["tokenization.OwnTokenizer", None]
    edit(
        folder / "tokenizer_config.json",
        tokenizer_class="OwnTokenizer",
        auto_map={"AutoTokenizer": names},
    )
    with pytest.raises(StudyError, match=r"tokenization.OwnTokenizer.*`models.NAME.remote_code`"):
        load_tokenizer(CheckpointLocation(str(folder)))
    assert not ran.exists()


def test_an_architecture_of_the_repository_is_refused_either_way(folder: Path) -> None:
    edit(folder / "config.json", model_type="own")
    for allowed in (None, NAME):
        with pytest.raises(StudyError, match="architecture 'own' is not supported"):
            load_model(CheckpointLocation(str(folder), remote_code=allowed), device="cpu")


def test_a_local_folder_is_found_with_its_code(folder: Path) -> None:
    assert local_files(CheckpointLocation(str(folder), remote_code=NAME)).folder == folder
