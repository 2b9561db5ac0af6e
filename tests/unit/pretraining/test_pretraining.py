"""Pretraining: what is saved and logged, and runs that go on after an interruption."""

import json
from dataclasses import replace

import polars as pl
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.pretraining import training
from glossogenesis.pretraining.text import token_batches, tokenizer_from_text
from glossogenesis.pretraining.training import RunFiles, TrainedModel, initial_model, pretrain
from glossogenesis.storage.provenance import Provenance, file_digest
from support.bar_clock import BarClock, lines_of
from support.tiny_pretraining import SETTINGS, SETTINGS_OF_ADAMW, settings_of, source_of

PROVENANCE = Provenance(kind="pretraining", study="test", settings={}, inputs={}, code="")


def random_start(settings):
    tokenizer = tokenizer_from_text(source_of(settings), settings)
    return TrainedModel(initial_model(settings, tokenizer), tokenizer)


def files_of(folder):
    return RunFiles(
        folder / "run/manifest.json", folder / "run/training.parquet", folder / "resume"
    )


def run(folder, settings, **options):
    pretrain(settings, source_of(settings), files_of(folder), PROVENANCE, **options)
    return json.loads((folder / "run/manifest.json").read_text(encoding="utf-8"))


def digests(folder):
    return {
        str(path.relative_to(folder)): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, run(folder, settings_of())


def test_exactly_the_asked_steps_are_saved_and_described(finished):
    folder, manifest = finished
    saved = manifest["checkpoints"]
    assert [row["step"] for row in saved] == [0, 1, 2, 4, 8, 12]
    assert [row["phase"] for row in saved] == [1, 1, 1, 1, 2, 2]
    assert [row["tokens"] for row in saved] == [128 * row["step"] for row in saved]
    assert saved[0]["loss"] is None
    for row in saved:
        for name, facts in row["files"].items():
            path = folder / "run" / row["folder"] / name
            assert path.stat().st_size == facts["bytes"]
            assert file_digest(path) == facts["sha256"]
    folders = {path.name for path in (folder / "run").iterdir() if path.is_dir()}
    assert folders == {row["folder"] for row in saved}
    assert not (folder / "resume").exists()


def test_the_log_has_a_row_a_step(finished):
    folder, manifest = finished
    log = pl.read_parquet(folder / "run/training.parquet")
    assert log["step"].to_list() == list(range(1, 13))
    assert log["phase"].to_list() == [1] * 6 + [2] * 6
    assert log["context"].to_list() == [16] * 3 + [32] * 9
    assert log["tokens"].to_list() == [128 * step for step in range(1, 13)]
    last = manifest["checkpoints"][-1]["loss"]
    assert last == pytest.approx(log["loss"][8:].mean())


def test_checkpoints_load_and_the_last_one_predicts_better(finished):
    folder, _ = finished
    settings = settings_of()
    tokenizer = AutoTokenizer.from_pretrained(folder / "run/step_000012")
    batch = next(token_batches(source_of(settings), tokenizer, settings, 12))
    losses = []
    for step in ("step_000000", "step_000012"):
        model, report = AutoModelForCausalLM.from_pretrained(
            folder / "run" / step, output_loading_info=True
        )
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys"))
        assert model.config.rope_parameters["rope_theta"] == 10_000
        losses.append(training.mean_loss(Anatomy.of(model), batch, "float32").item())
    assert losses[1] < losses[0] - 0.3


@pytest.mark.parametrize("content", [SETTINGS, SETTINGS_OF_ADAMW])
def test_two_runs_are_byte_identical_even_when_one_is_interrupted(tmp_path, monkeypatch, content):
    settings = settings_of(content)
    run(tmp_path / "whole", settings)
    steps_done = 0
    step = training._Run._step

    def interrupted(*arguments):
        nonlocal steps_done
        steps_done += 1
        if steps_done == 8:
            raise KeyboardInterrupt
        step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "broken", settings, seconds_between_states=0.0)
    assert not (tmp_path / "broken/run/manifest.json").exists()
    steps_done = -1000
    monkeypatch.setattr(training._Run, "_step", interrupted)
    run(tmp_path / "broken", settings)
    assert steps_done == -1000 + 5  # steps 8 to 12
    assert digests(tmp_path / "broken") == digests(tmp_path / "whole")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_one_thread_and_two_give_equal_bytes(tmp_path, finished, threads):
    for number in (1, 2):
        threads(number)
        run(tmp_path / str(number), settings_of())
        assert digests(tmp_path / str(number)) == digests(finished[0])


def test_the_bar_of_a_resumed_run_counts_from_where_it_goes_on(tmp_path, monkeypatch, capsys):
    """Twelve steps of six seconds; the second run takes the last five."""
    clock, step, steps = BarClock(monkeypatch), training._Run._step, iter(range(1, 14))

    def slow(*arguments):
        clock.sleep(6.01)
        if next(steps) == 8:
            raise KeyboardInterrupt
        step(*arguments)

    monkeypatch.setattr(training._Run, "_step", slow)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, settings_of(), seconds_between_states=0.0)
    capsys.readouterr()
    run(tmp_path, settings_of())
    lines = lines_of(capsys.readouterr().err, "pretraining")
    assert lines[0] == (100 * 7 // 12, 0, None)
    assert [(past, left) for _, past, left in lines[1:]] == [
        (6, 24), (12, 18), (18, 12), (24, 6), (30, 0)
    ]  # fmt: skip


def test_a_run_begins_anew_where_its_state_or_checkpoints_are_gone(tmp_path, finished):
    settings = settings_of()
    files = files_of(tmp_path)
    run_of = training._Run(settings, random_start(settings), files, PROVENANCE, "cpu")
    run_of._save_if_asked()
    run_of._step(torch.zeros(4, 32, dtype=torch.int64))
    run_of._keep_state()
    (tmp_path / "run/step_000000/model.safetensors").write_bytes(b"")
    run(tmp_path, settings)
    assert digests(tmp_path) == digests(finished[0])

    run_of._keep_state()
    content = run_of.state.path.read_bytes()
    run_of.state.path.write_bytes(content[: len(content) // 2])
    run(tmp_path, settings)
    assert digests(tmp_path) == digests(finished[0])


def test_a_state_of_other_settings_is_not_resumed(tmp_path, finished):
    settings = settings_of()
    other = replace(PROVENANCE, settings={"other": 1})
    run_of = training._Run(settings, random_start(settings), files_of(tmp_path), other, "cpu")
    run_of._step(torch.zeros(4, 32, dtype=torch.int64))
    run_of._keep_state()
    run(tmp_path, settings)
    assert digests(tmp_path) == digests(finished[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"saved_steps": (0, 13)}, "step 13, but training ends at 12"),
        ({"saved_steps": (4, 2)}, "step 2 stands after 4"),
        ({"model": {"hidden": 20, "heads": 3}}, "not a multiple of heads 3"),
        ({"model": {"hidden": 6, "heads": 2}}, "odd"),
        ({"model": {"heads": 4, "key_value_heads": 3}}, "key_value_heads 3"),
        ({"steps": {1: 6, 3: 6}}, "number them"),
        ({"steps": {1: 6, 2: 3, 3: 3}}, "describe each phase"),
        ({"context": 65}, "longer than"),
        ({"short_contexts": [{"context": 30, "steps": 1}]}, "does not divide"),
        ({"text": {"kind": "demo", "phases": {1: {"pairs": "all"}}, "lines": (5, 3)}}, "swap"),
        ({"rate": 1}, "Extra inputs"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        settings_of(**changes)
