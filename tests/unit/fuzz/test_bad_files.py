"""Whatever stands in a user's file, reading it succeeds or says in one line what to fix.

Each kind of file has a good example, a way to break it, and what the workflow does with it. Inputs
are drawn, but the same ones in every run; what once went wrong is tried first.
"""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from hypothesis import HealthCheck, given, settings

from glossogenesis.exceptions import StudyError
from support.fuzz.file_kinds import KINDS, Kind


def try_input(kind: Kind, folder: Path, content: bytes) -> bool:
    """Use a bad file; return whether it was refused, in one line that names a file."""
    path = folder / kind.file
    path.write_bytes(content)
    try:
        kind.use(path)
    except StudyError as error:
        message = str(error)
        assert message.strip(), "an error without words"
        assert message.isprintable(), repr(message)
        names = {part.name for part in folder.rglob("*")} | {
            path.name,
            folder.name,
            "robustness",
            "pair",
        }
        assert any(name in message for name in names), message
        return True
    return False


@pytest.mark.parametrize(
    "share", [0.25, pytest.param(1.0, marks=pytest.mark.slow)], ids=["a quarter", "all"]
)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_bad_file_is_refused_in_one_line(
    kind: Kind, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = round(share * kind.inputs)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    kind.write(tmp_path)
    good = (tmp_path / kind.file).read_bytes()
    assert not try_input(kind, tmp_path, good)
    for content in kind.known:
        try_input(kind, tmp_path, content)
    tried = refused = 0

    @settings(
        max_examples=inputs,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(content=kind.bad(good))
    def attempt(content: bytes) -> None:
        nonlocal tried, refused
        tried += 1
        refused += try_input(kind, tmp_path, content)

    attempt()
    assert tried >= inputs
    # A few inputs may all be readable.
    assert refused or share < 1


def test_how_many_inputs_are_tried() -> None:
    assert sum(kind.inputs for kind in KINDS) >= 2000
