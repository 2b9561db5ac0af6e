"""A saved step: whole, and without what a killed run left of an earlier attempt."""

from __future__ import annotations

from pathlib import Path

from glossogenesis.pretraining.text import demo_source, tokenizer_from_text
from glossogenesis.pretraining.training import TrainedModel, initial_model, save_step
from glossogenesis.storage.provenance import Provenance
from support.tiny_pretraining import CONCEPTS, ENDONYMS, SHARES, settings_of


def test_drafts_and_files_of_a_killed_run_are_gone(tmp_path: Path) -> None:
    settings = settings_of()
    source = demo_source(settings.text, CONCEPTS, ENDONYMS, SHARES)
    tokenizer = tokenizer_from_text(source, settings)
    trained = TrainedModel(initial_model(settings, tokenizer), tokenizer)
    draft, old = tmp_path / ".step_000002.abc", tmp_path / "step_000002"
    for folder in (draft, old):
        folder.mkdir()
        (folder / "half.json").write_text("{")
    saved = save_step(
        tmp_path, trained, Provenance("p", "demo", {}, {}, ""), step=2, tokens=8, phase=1, loss=1.0
    )
    assert [path.name for path in tmp_path.iterdir()] == ["step_000002"]
    assert sorted(saved.files) == sorted(path.name for path in old.iterdir())
    assert saved.is_whole(tmp_path)
