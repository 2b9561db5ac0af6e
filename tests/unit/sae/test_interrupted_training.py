"""Training from a cache that is interrupted goes on, and ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glossogenesis.sae.jobs import train_from_cache
from glossogenesis.sae.training import TrainingRun
from glossogenesis.storage.provenance import Provenance
from support.cached_jobs import SMALL, bytes_of, job, planted_cache

SCRIPTS = Path(__file__).parents[3] / "workflow_scripts"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    return planted_cache(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
@pytest.mark.parametrize("epochs", [1, 2])
def test_an_interrupted_run_ends_with_the_bytes_of_one_that_was_not(
    tmp_path, manifest, monkeypatch, architecture, epochs
):
    settings = SMALL.model_copy(update={"architecture": architecture, "epochs": epochs})
    train_from_cache(job(tmp_path / "whole", manifest, settings), device="cpu")
    step = TrainingRun.step
    for last in (1, 5, 12):
        folder = tmp_path / str(last)

        def stop_after(run, batch, last=last):
            if run.steps_done == last:
                raise KeyboardInterrupt
            step(run, batch)

        monkeypatch.setattr(TrainingRun, "step", stop_after)
        with pytest.raises(KeyboardInterrupt):
            train_from_cache(
                job(folder, manifest, settings),
                device="cpu",
                seconds_between_states=0,
            )
        taken: list[int] = []

        def count(run, batch, taken=taken):
            taken.append(run.steps_done)
            step(run, batch)

        monkeypatch.setattr(TrainingRun, "step", count)
        train_from_cache(job(folder, manifest, settings), device="cpu")
        monkeypatch.setattr(TrainingRun, "step", step)
        assert taken[0] == last
        assert bytes_of(folder) == bytes_of(tmp_path / "whole")
        assert not (folder / "resume").exists()


def test_a_state_of_other_settings_is_not_taken_up(tmp_path, manifest, monkeypatch):
    step = TrainingRun.step

    def stop(run, batch):
        if run.steps_done == 3:
            raise KeyboardInterrupt
        step(run, batch)

    monkeypatch.setattr(TrainingRun, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        train_from_cache(job(tmp_path, manifest), device="cpu", seconds_between_states=0)
    monkeypatch.setattr(TrainingRun, "step", step)
    changed = Provenance("sae", "a-study", {"k": 4}, {}, "")
    train_from_cache(job(tmp_path, manifest, provenance=changed), device="cpu")
    train_from_cache(job(tmp_path / "fresh", manifest, provenance=changed), device="cpu")
    assert bytes_of(tmp_path) == bytes_of(tmp_path / "fresh")


def program(folder: Path, manifest: Path, seconds_between_states: float) -> list[str]:
    return [
        sys.executable,
        str(SCRIPTS / "train_saes.py"),
        "--settings",
        f'{{"sae": {SMALL.model_copy(update={"epochs": 20}).model_dump_json()}, "seed": 0, '
        '"on_diverged": "stop"}',
        *("--study", "a-study", "--activations", str(manifest), "--warm-start"),
        *("--resume-dir", str(folder / "resume"), "--threads", "1"),
        *("--seconds-between-states", str(seconds_between_states)),
        *("--output", str(folder / "sae" / "sae_weights.safetensors")),
    ]


@pytest.mark.slow
def test_a_killed_program_goes_on_and_ends_with_equal_bytes(tmp_path, manifest):
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"}
    whole = subprocess.run(
        program(tmp_path / "whole", manifest, 60.0), env=environment, capture_output=True
    )
    assert whole.returncode == 0, whole.stderr.decode()
    killed = tmp_path / "killed"
    kills = 0
    for _ in range(10):
        running = subprocess.Popen(
            program(killed, manifest, 0.05),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # The state is written many times a second, so the signal hits steps and writes alike.
        while running.poll() is None and not list(killed.glob("resume/**/*.safetensors")):
            time.sleep(0.01)
        time.sleep(0.05 + 0.1 * kills)
        if running.poll() is None and kills < 2:
            running.send_signal(signal.SIGKILL)
            kills += 1
        if running.wait() == 0:
            break
    assert kills
    assert bytes_of(killed) == bytes_of(tmp_path / "whole")
    assert not (killed / "resume").exists()
