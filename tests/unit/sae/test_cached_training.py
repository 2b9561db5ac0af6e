"""Training from a cache: recovery of what was planted, the winner, and bad input."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from glossogenesis.exceptions import NotFiniteError, StudyError
from glossogenesis.sae.files import origin_of_sae, read_own_facts, read_sae, write_no_sae
from glossogenesis.sae.jobs import train_from_cache
from glossogenesis.storage.activations.cache import purge_shards
from glossogenesis.storage.provenance import LEFT_OUT, reason_left_out
from glossogenesis.storage.tables import read_provenance, read_table
from glossogenesis.study.features import SaeTraining
from support.cached_activations import write_cache
from support.cached_jobs import PROVENANCE, SMALL, bytes_of, job, planted_cache
from support.planted_dictionary import best_cosines, planted

SCRIPTS = Path(__file__).parents[3] / "workflow_scripts"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    return planted_cache(tmp_path_factory.mktemp("cache"))


def test_planted_directions_are_found(tmp_path):
    data = planted(n_features=48, d_model=48, active=3, rows=26_000, noise=0.01)
    manifest = write_cache(tmp_path, data.activations[:25_000], data.activations[25_000:])
    settings = SaeTraining(
        latents=96, k=3, batch_size=256, epochs=3, learning_rates=(3e-3,), decay_share=0.3
    )
    train_from_cache(job(tmp_path, manifest, settings), device="cpu")
    sae = read_sae(tmp_path / "sae")
    assert best_cosines(data.directions, sae.w_dec).mean() > 0.97
    held_out = read_own_facts(tmp_path / "sae")["training"]["held_out"][0]
    assert held_out["explained_variance"] > 0.95
    assert held_out["l0"] <= 3


def test_batchtopk_keeps_its_k_on_average_at_inference(tmp_path):
    data = planted(n_features=48, d_model=32, active=4, rows=13_000, noise=0.02)
    manifest = write_cache(tmp_path, data.activations[:12_000], data.activations[12_000:])
    settings = SaeTraining(
        architecture="batchtopk",
        latents=96,
        k=4,
        batch_size=256,
        epochs=2,
        learning_rates=(3e-3,),
        decay_share=0.3,
    )
    train_from_cache(job(tmp_path, manifest, settings), device="cpu")
    sae = read_sae(tmp_path / "sae")
    u, _ = sae.to_sae_space(data.activations[12_000:])
    fired = sae.fired(u)
    assert len(fired.values) / fired.n_rows == pytest.approx(4.0, rel=0.05)
    counts = torch.bincount(fired.rows, minlength=fired.n_rows)
    assert counts.min() < 4 < counts.max()
    steps = pl.read_parquet(tmp_path / "sae" / "training.parquet")
    assert steps["l0"].to_list()[-1] == 4.0


def test_a_penalty_on_latents_makes_relu_sparse(tmp_path, manifest):
    l0 = {}
    for weight in (0.0, 0.3):
        settings = SaeTraining(
            architecture="relu",
            latents=64,
            l1_coefficient=weight,
            batch_size=64,
            epochs=20,
            learning_rates=(3e-3,),
        )
        folder = tmp_path / str(weight)
        train_from_cache(job(folder, manifest, settings), device="cpu")
        l0[weight] = read_own_facts(folder / "sae")["training"]["held_out"][0]["l0"]
    assert l0[0.3] < 0.5 * l0[0.0]


def test_the_learning_rate_with_the_least_held_out_loss_is_kept_and_all_are_recorded(
    tmp_path, manifest
):
    train_from_cache(job(tmp_path, manifest), device="cpu")
    facts = read_own_facts(tmp_path / "sae")["training"]
    assert [each["learning_rate"] for each in facts["held_out"]] == [1e-2, 1e-5]
    assert facts["held_out"][0]["loss"] < facts["held_out"][1]["loss"]
    assert facts["learning_rate"] == 1e-2
    assert facts["held_out"][0]["tokens"] == 400
    recorded = read_provenance(tmp_path / "sae" / "training.parquet").facts
    assert recorded["held_out"] == facts["held_out"]
    rows = pl.read_parquet(tmp_path / "sae" / "training.parquet")
    assert rows.group_by("learning_rate").len()["len"].to_list() == [13, 13]
    assert rows["tokens"].max() == 13 * 128
    single = tmp_path / "single"
    settings = SMALL.model_copy(update={"learning_rates": (1e-2,)})
    train_from_cache(job(single, manifest, settings), device="cpu")
    assert torch.equal(read_sae(single / "sae").w_enc, read_sae(tmp_path / "sae").w_enc)


def test_equal_runs_give_equal_bytes_and_leave_no_state(tmp_path, manifest):
    for name in ("a", "b"):
        train_from_cache(job(tmp_path / name, manifest), device="cpu")
        assert not (tmp_path / name / "resume").exists()
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    other = job(tmp_path / "c", manifest, seed=1)
    train_from_cache(other, device="cpu")
    assert bytes_of(tmp_path / "a") != bytes_of(tmp_path / "c")


def test_a_warm_start_begins_at_the_neighbour_and_is_recorded(tmp_path, manifest):
    train_from_cache(job(tmp_path / "first", manifest), device="cpu")
    weights = tmp_path / "first" / "sae" / "sae_weights.safetensors"
    # With no time to move, what comes out is what went in.
    still = SMALL.model_copy(update={"warmup_steps": 0, "learning_rates": (1e-12,)})
    train_from_cache(job(tmp_path / "second", manifest, still, warm_start=weights), device="cpu")
    first, second = read_sae(tmp_path / "first" / "sae"), read_sae(tmp_path / "second" / "sae")
    for name, parameter in first.named_parameters():
        assert torch.allclose(parameter, second.get_parameter(name), atol=1e-6), name
    assert read_own_facts(tmp_path / "second" / "sae")["training"]["warm_start"] == "100"
    assert read_own_facts(tmp_path / "first" / "sae")["training"]["warm_start"] is None


def test_a_neighbour_of_another_size_is_refused(tmp_path, manifest):
    train_from_cache(job(tmp_path / "first", manifest), device="cpu")
    weights = tmp_path / "first" / "sae" / "sae_weights.safetensors"
    larger = SMALL.model_copy(update={"latents": 80})
    with pytest.raises(StudyError, match=r"number of latents 64.*of number of latents 80"):
        train_from_cache(job(tmp_path / "b", manifest, larger, warm_start=weights), device="cpu")
    data = planted(n_features=32, d_model=24, active=3, rows=400)
    wider = write_cache(tmp_path / "wider", data.activations[:300], data.activations[300:])
    with pytest.raises(StudyError, match="width 16"):
        train_from_cache(job(tmp_path / "c", wider, warm_start=weights), device="cpu")


def test_a_k_above_the_dictionary_is_refused(tmp_path, manifest):
    settings = SaeTraining(expansion=2, k=40, batch_size=128)
    with pytest.raises(StudyError, match="k is 40, larger than the dictionary of 32 latents"):
        train_from_cache(job(tmp_path, manifest, settings), device="cpu")


def test_too_few_tokens_for_a_batch_are_refused(tmp_path, manifest):
    settings = SMALL.model_copy(update={"batch_size": 4096})
    with pytest.raises(StudyError, match=r"layer 3: 1700 training tokens do not fill.*lower"):
        train_from_cache(job(tmp_path, manifest, settings), device="cpu")


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_activations_that_are_not_finite_name_layer_and_checkpoint(tmp_path, split):
    data = planted(n_features=32, d_model=16, active=3, rows=600).activations
    data[100 if split == "train" else 590, 3] = float("nan")
    manifest = write_cache(tmp_path, data[:500], data[500:])
    with pytest.raises(StudyError, match=r"tiny, checkpoint 100, layer 3: activations are NaN"):
        train_from_cache(job(tmp_path, manifest), device="cpu")


def test_a_learning_rate_whose_loss_is_not_finite_is_named_and_loses(tmp_path, manifest, capsys):
    settings = SMALL.model_copy(update={"learning_rates": (1e30, 1e-3), "warmup_steps": 0})
    train_from_cache(job(tmp_path, manifest, settings), device="cpu")
    training = read_own_facts(tmp_path / "sae")["training"]
    assert training["learning_rate"] == 1e-3
    assert [facts["learning_rate"] for facts in training["held_out"]] == [1e-3]
    assert "layer 3: the loss is not finite at learning rate 1e+30" in capsys.readouterr().out


def test_a_layer_whose_every_loss_is_not_finite_is_left_out(tmp_path, manifest):
    settings = SMALL.model_copy(update={"learning_rates": (1e30,), "warmup_steps": 0})
    train_from_cache(job(tmp_path, manifest, settings), device="cpu")
    origin = origin_of_sae(tmp_path / "sae")
    assert re.search(r"layer 3: the loss is not finite at .*1e\+30", reason_left_out(origin))
    assert read_table(tmp_path / "sae" / "training.parquet").is_empty()
    assert not (tmp_path / "resume").exists()
    with pytest.raises(StudyError, match=r"cfg\.json"):
        read_sae(tmp_path / "sae")
    with pytest.raises(NotFiniteError, match=r"1e\+30 after \d+ steps; lower or remove it"):
        train_from_cache(job(tmp_path, manifest, settings, on_diverged="stop"), device="cpu")


def test_a_warm_start_from_what_was_left_out_starts_anew(tmp_path, manifest, capsys):
    write_no_sae(tmp_path / "before", replace(PROVENANCE, facts={LEFT_OUT: "it diverged"}))
    train_from_cache(job(tmp_path, manifest, warm_start=tmp_path / "before"), device="cpu")
    assert read_own_facts(tmp_path / "sae")["training"]["warm_start"] is None
    assert "starts again" in capsys.readouterr().out


def test_purged_activations_say_how_to_remake_them(tmp_path):
    data = planted(n_features=32, d_model=16, active=3, rows=600).activations
    manifest = write_cache(tmp_path, data[:500], data[500:])
    purge_shards(manifest)
    with pytest.raises(StudyError, match="were purged; delete"):
        train_from_cache(job(tmp_path, manifest), device="cpu")


def test_the_program_never_imports_transformers():
    code = "import sys, train_saes; print('transformers' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]
