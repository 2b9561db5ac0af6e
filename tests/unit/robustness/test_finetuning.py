"""Fine-tuning: what it learns, what its log says, and that it goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import logging

from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.robustness.finetuning import (
    TRAINING_SCHEMA,
    Device,
    TrainedEpoch,
    finetune,
    remove_states,
    training_table,
)
from glossogenesis.robustness.tokenised_posts import LabelledPosts, classify_posts
from glossogenesis.study.robustness import ClassifierSettings
from support.separable_posts import save_tiny_model, separable_posts, tiny_fresh_classifier

TRAIN = separable_posts(72)
HELD_OUT = separable_posts(30, seed=1)
SETTINGS = ClassifierSettings(epochs=2, learning_rate=1e-2, batch_size=8, warmup_share=0.1)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> CheckpointLocation:
    return save_tiny_model(tmp_path_factory.mktemp("llama"))


def trained(
    location: CheckpointLocation,
    state: Path,
    *,
    settings: ClassifierSettings = SETTINGS,
    train: LabelledPosts = TRAIN,
    on_epoch: Any = lambda epoch: None,
) -> tuple[PreTrainedModel, list[TrainedEpoch]]:
    model = tiny_fresh_classifier(location)
    device = Device("cpu", "bfloat16", evaluation_batch=7)
    epochs = finetune(
        model,
        train,
        HELD_OUT,
        settings,
        seed=0,
        device=device,
        state_folder=state,
        on_epoch=on_epoch,
    )
    return model, epochs


def bytes_of(model: PreTrainedModel) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())


def test_learns_separable_posts_and_says_so(llama: CheckpointLocation, tmp_path: Path) -> None:
    _, epochs = trained(llama, tmp_path)
    assert [(row.epoch, row.step) for row in epochs] == [(1, 9), (2, 18)]
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert (epochs[-1].accuracy, epochs[-1].macro_f1) == (1.0, 1.0)
    table = training_table(epochs)
    assert table.schema == TRAINING_SCHEMA
    assert table.row(0, named=True)["held_out_loss"] == epochs[0].held_out_loss


def test_the_log_measures_the_weights_it_stands_for(
    llama: CheckpointLocation, tmp_path: Path
) -> None:
    """Against scikit-learn and PyTorch on logits of the trained model, one post at a time."""
    settings = SETTINGS.model_copy(update={"epochs": 1, "learning_rate": 2e-4})
    model, (epoch,) = trained(llama, tmp_path, settings=settings)
    logits = classify_posts(Anatomy.of(model.eval()), HELD_OUT.token_ids, batch_size=1).logits
    labels = torch.tensor(HELD_OUT.label_ids)
    predicted = logits.argmax(dim=1)
    f1 = f1_score(labels, predicted, average="macro")
    assert 0.1 < epoch.macro_f1 < 1.0
    assert epoch.macro_f1 == pytest.approx(f1)
    assert epoch.accuracy == pytest.approx((predicted == labels).double().mean().item())
    loss = functional.cross_entropy(logits, labels).item()
    assert epoch.held_out_loss == pytest.approx(loss, rel=1e-5)


def test_the_first_step_of_adam_moves_a_weight_by_the_learning_rate(
    llama: CheckpointLocation, tmp_path: Path
) -> None:
    before = tiny_fresh_classifier(llama)
    settings = ClassifierSettings(
        epochs=1, learning_rate=1e-3, batch_size=len(TRAIN), weight_decay=0
    )
    for name, moved in (("linear", 1e-3), ("warm-up", 0.0)):
        # A warm-up over the only step begins, and ends, at a learning rate of 0.
        share = {"warmup_share": 1.0 if name == "warm-up" else 0.0}
        model, _ = trained(llama, tmp_path / name, settings=settings.model_copy(update=share))
        change = model.get_parameter("score.weight") - before.get_parameter("score.weight")
        assert change.abs().median().item() == pytest.approx(moved, rel=1e-2)


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(architecture: str, tmp_path: Path) -> None:
    """GPT-2 has dropout, so that its random state must come back too."""
    location = save_tiny_model(tmp_path / "weights", architecture)
    whole, epochs = trained(location, tmp_path / "whole")
    state = tmp_path / "killed" / "digest"

    def kill(epoch: TrainedEpoch) -> None:
        if epoch.epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        trained(location, state, on_epoch=kill)
    # As a process leaves it that ends while it writes: without the file that is written last.
    (state / "checkpoint-18").mkdir()
    (state / "checkpoint-18" / "model.safetensors").write_bytes(b"half")
    reported: list[TrainedEpoch] = []
    resumed, all_epochs = trained(location, state, on_epoch=reported.append)
    assert [epoch.epoch for epoch in reported] == [2]
    assert all_epochs == epochs
    assert bytes_of(resumed) == bytes_of(whole)

    # Killed after the last epoch, before the classifier was written: nothing is trained again.
    again, all_epochs = trained(location, state, on_epoch=reported.append)
    assert (len(reported), all_epochs) == (1, epochs)
    assert bytes_of(again) == bytes_of(whole)

    # One bit of every kept state changed: they count as none, and all is trained again.
    for weights in state.glob("checkpoint-*/model.safetensors"):
        content = bytearray(weights.read_bytes())
        content[-5] ^= 1
        weights.write_bytes(content)
    again, all_epochs = trained(location, state)
    assert all_epochs == epochs
    assert bytes_of(again) == bytes_of(whole)


def test_the_bar_of_a_resumed_run_counts_the_epochs_that_are_done(
    llama: CheckpointLocation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each epoch trains on 9 batches and measures 5."""

    def kill(epoch: TrainedEpoch) -> None:
        if epoch.epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        trained(llama, tmp_path, on_epoch=kill)
    capsys.readouterr()
    trained(llama, tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if "fine-tuning" in line]
    assert "14.0/28.0" in lines[0]
    assert "28.0/28.0" in lines[-1]


def test_states_are_removed_and_other_files_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "resume"
    for digest in ("now", "given_up"):
        (folder / digest / "checkpoint-6").mkdir(parents=True)
        (folder / digest / "checkpoint-6" / "trainer_state.json").write_text("{}")
    (folder / "notes").mkdir()
    remove_states(folder)
    assert [path.name for path in folder.iterdir()] == ["notes"]
    (folder / "notes").rmdir()
    remove_states(folder)
    assert not folder.exists()
    remove_states(folder)


def test_a_learning_rate_that_is_too_high_is_named(
    llama: CheckpointLocation, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": 1e18, "warmup_share": 0.0})
    with pytest.raises(StudyError, match=r"loss is (nan|inf) at step 2; lower `robustness.class"):
        trained(llama, tmp_path, settings=settings)
    one_step = settings.model_copy(update={"epochs": 1, "batch_size": len(TRAIN)})
    with pytest.raises(StudyError, match=r"loss is (nan|inf) after epoch 1; lower"):
        trained(llama, tmp_path / "other", settings=one_step)


def test_nothing_but_results_is_left_behind(
    llama: CheckpointLocation, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither output beside the bar, nor settings of transformers, nor of the model."""
    verbosity = logging.get_verbosity()
    model, _ = trained(llama, tmp_path, settings=SETTINGS.model_copy(update={"epochs": 1}))
    printed = capfd.readouterr()
    assert printed.out == ""
    assert all(line.startswith("fine-tuning:") for line in printed.err.splitlines())
    assert logging.get_verbosity() == verbosity
    assert logging.is_progress_bar_enabled()
    assert model.config.use_cache is True


def test_bfloat16_is_for_gpus() -> None:
    assert Device("cpu", "bfloat16", 1).computes_in == "float32"
    assert Device("cuda", "bfloat16", 1).computes_in == "bfloat16"
    assert Device("cuda", "float32", 1).computes_in == "float32"
