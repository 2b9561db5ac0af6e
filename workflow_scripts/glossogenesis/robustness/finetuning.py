"""Fine-tune a classifier, head and model, with transformers' Trainer."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from glossogenesis.exceptions import StudyError
from glossogenesis.models.batches import pad_right
from glossogenesis.progress import progress
from glossogenesis.robustness.classifier import quiet_transformers
from glossogenesis.robustness.scores import scores_of
from glossogenesis.robustness.tokenised_posts import LabelledPosts
from glossogenesis.storage.files import has_recorded_bytes, record_digests
from glossogenesis.study.robustness import ClassifierSettings

TRAINING_SCHEMA = pl.Schema(
    {
        "epoch": pl.Int32,
        "step": pl.Int32,
        "train_loss": pl.Float64,
        "held_out_loss": pl.Float64,
        "accuracy": pl.Float64,
        "macro_f1": pl.Float64,
    }
)

_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
_STATE_FILE = "trainer_state.json"


@dataclass(frozen=True)
class TrainedEpoch:
    """One row of the training table."""

    epoch: int
    step: int
    """Steps from the beginning."""
    train_loss: float
    """Mean of the epoch's steps, each the mean cross-entropy of its posts, in nats."""
    held_out_loss: float
    """Mean over held-out posts after the epoch, in nats."""
    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class Device:
    """Where and how a classifier computes."""

    name: str
    """`cpu` or `cuda`."""
    dtype: str
    """`float32` or `bfloat16`, by the model's setting."""
    evaluation_batch: int
    """Held-out posts in one forward pass."""

    @property
    def is_cpu(self) -> bool:
        """Whether training is on the CPU."""
        return self.name == "cpu"

    @property
    def computes_in(self) -> str:
        """`bfloat16` on a GPU where the setting says so, by autocast; weights are float32."""
        return "float32" if self.is_cpu else self.dtype


def finetune(
    model: PreTrainedModel,
    train: LabelledPosts,
    held_out: LabelledPosts,
    settings: ClassifierSettings,
    *,
    seed: int,
    device: Device,
    state_folder: Path,
    on_epoch: Callable[[TrainedEpoch], object],
) -> list[TrainedEpoch]:
    """Train all weights of `model` in place, and measure it on held-out posts after each epoch.

    AdamW with gradients clipped at norm 1; weight decay spares biases and norms; `seed` draws the
    order of posts. Equal arguments
    give equal weights on the CPU, also when the run was interrupted: it goes on from the last
    epoch that `state_folder` keeps, in the Trainer's own format. `on_epoch` is called after each
    epoch of this run.

    Raises:
        StudyError: the loss is NaN or infinite.
    """
    used_cache = model.config.use_cache
    with quiet_transformers():
        trainer = _Trainer(
            model=model,
            args=_training_arguments(len(train), settings, seed, device, state_folder),
            data_collator=_Collator(model.config.pad_token_id),
            train_dataset=_rows(train),
            # Posts of similar length share a batch; the measures do not depend on the order.
            eval_dataset=sorted(_rows(held_out), key=lambda row: -len(row["input_ids"])),
            compute_metrics=_measures,
            callbacks=[
                _EpochCallback(on_epoch),
                _ProgressCallback(math.ceil(len(held_out) / device.evaluation_batch)),
            ],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=_last_state(state_folder))
    # The Trainer switches the cache off for good, which a saved model would inherit.
    model.config.use_cache = used_cache
    return _epochs(trainer.state.log_history)


def remove_states(folder: Path) -> None:
    """Remove all states under `folder`, also those of trainings that were given up."""
    for checkpoint in folder.glob(f"*/checkpoint-*/{_STATE_FILE}"):
        shutil.rmtree(checkpoint.parents[1], ignore_errors=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def training_table(epochs: Sequence[TrainedEpoch]) -> pl.DataFrame:
    """Return `training.parquet`."""
    return pl.DataFrame(epochs, schema=TRAINING_SCHEMA)


class _Trainer(Trainer):
    """Stops at the first loss that is not finite."""

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss: Tensor = super().training_step(*args, **kwargs)
        if not bool(loss.isfinite()):
            raise StudyError(_not_finite(loss.item(), f"at step {self.state.global_step + 1}"))
        return loss


class _EpochCallback(TrainerCallback):
    """Reports each epoch once it is measured, and seals its state once it is kept."""

    def __init__(self, on_epoch: Callable[[TrainedEpoch], object]) -> None:
        self._on_epoch = on_epoch

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        epoch = _epochs(state.log_history)[-1]
        if not math.isfinite(epoch.held_out_loss):
            raise StudyError(_not_finite(epoch.held_out_loss, f"after epoch {epoch.epoch}"))
        self._on_epoch(epoch)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        record_digests(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class _ProgressCallback(TrainerCallback):
    """Shows how many batches of all epochs are trained on or measured."""

    def __init__(self, measured_an_epoch: int) -> None:
        self._measured = measured_an_epoch

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        epochs, done = args.num_train_epochs, round(state.epoch or 0)
        self._bar = progress(
            total=state.max_steps + epochs * self._measured,
            done=state.global_step + done * self._measured,
            label="fine-tuning",
            unit="batch",
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.update()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.close()


@dataclass(frozen=True)
class _Collator:
    """Makes a batch of rows, padded on the right."""

    pad_id: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        padded = pad_right([row["input_ids"] for row in rows], pad_id=self.pad_id)
        labels = torch.tensor([row["labels"] for row in rows])
        return {"input_ids": padded.token_ids, "attention_mask": padded.mask, "labels": labels}


def _training_arguments(
    posts: int, settings: ClassifierSettings, seed: int, device: Device, state_folder: Path
) -> TrainingArguments:
    steps = settings.epochs * math.ceil(posts / settings.batch_size)
    arguments = TrainingArguments(
        output_dir=str(state_folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=device.evaluation_batch,
        optim="adamw_torch",
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        lr_scheduler_type=_SCHEDULES[settings.schedule],
        warmup_steps=math.ceil(steps * settings.warmup_share),
        max_grad_norm=1.0,
        seed=seed,
        use_cpu=device.is_cpu,
        bf16=device.computes_in == "bfloat16",
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        # A NaN must be seen, not replaced by the mean of other losses.
        logging_nan_inf_filter=False,
        save_total_limit=1,
        remove_unused_columns=False,
        dataloader_pin_memory=not device.is_cpu,
        disable_tqdm=True,
        log_level="error",
        report_to="none",
        push_to_hub=False,
    )
    # Several visible GPUs would otherwise each take a batch, which multiplies the batch size.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _rows(posts: LabelledPosts) -> list[dict[str, Any]]:
    pairs = zip(posts.token_ids, posts.label_ids, strict=True)
    return [{"input_ids": ids, "labels": label} for ids, label in pairs]


def _measures(evaluated: Any) -> dict[str, float]:
    scores = scores_of(evaluated.label_ids, np.argmax(evaluated.predictions, axis=1))
    return {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1}


def _last_state(folder: Path) -> str | None:
    """Return the last state that is whole; one that was half written or damaged counts as none."""
    by_step: dict[int, Path] = {}
    for path in folder.glob(f"checkpoint-*/{_STATE_FILE}"):
        if has_recorded_bytes(path.parent):
            by_step[int(json.loads(path.read_text(encoding="utf-8"))["global_step"])] = path.parent
    return str(by_step[max(by_step)]) if by_step else None


def _epochs(log: Sequence[Mapping[str, Any]]) -> list[TrainedEpoch]:
    """Return the measured epochs in what the Trainer logged."""
    train_loss = {row["step"]: row["loss"] for row in log if "loss" in row}
    return [
        TrainedEpoch(
            epoch=round(row["epoch"]),
            step=row["step"],
            train_loss=train_loss[row["step"]],
            held_out_loss=row["eval_loss"],
            accuracy=row["eval_accuracy"],
            macro_f1=row["eval_macro_f1"],
        )
        for row in log
        if "eval_loss" in row
    ]


def _not_finite(loss: float, where: str) -> str:
    return (
        f"the loss is {loss} {where}; lower `robustness.classifier.learning_rate`, and check that "
        "the checkpoint's weights are finite"
    )
