"""Pretrain a model in phases, from random weights or from a checkpoint, and save it on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import polars as pl
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from glossogenesis.errors import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.halved_batches import HalvedBatches
from glossogenesis.models.pretraining_files import (
    SavedStep,
    TrainedModel,
    save_step,
    write_manifest,
)
from glossogenesis.models.pretraining_state import restore_state, save_state
from glossogenesis.models.training_schedule import phase_of
from glossogenesis.pretraining.optimizers import make_optimizers, rate_factor
from glossogenesis.pretraining.text import TextSource, token_batches, tokenizer_from_text
from glossogenesis.progress import progress
from glossogenesis.storage.provenance import Provenance, settings_digest
from glossogenesis.storage.resume import ResumeState
from glossogenesis.storage.tables import write_table
from glossogenesis.study.pretrain import PretrainSettings


@dataclass(frozen=True)
class TrainedStep:
    """One row of the training log."""

    step: int
    phase: int
    context: int
    loss: float
    """Mean over the step's tokens, in nats."""
    rate: float
    """The AdamW rate."""
    tokens: int
    """Seen so far."""


@dataclass(frozen=True)
class RunFiles:
    """Where a run writes: its manifest, with a folder a saved step beside it, and its log."""

    manifest: Path
    training: Path
    resume_folder: Path

    @property
    def run(self) -> Path:
        """The folder that holds the checkpoints."""
        return self.manifest.parent


def pretrain(
    settings: PretrainSettings,
    source: TextSource,
    files: RunFiles,
    provenance: Provenance,
    *,
    start: TrainedModel | None = None,
    device: str = "cpu",
    seconds_between_states: float = 30.0,
) -> None:
    """Train a model, and write checkpoints, log and, last, the manifest.

    It starts from `start`, whose weights change (`continued_pretraining.checkpoint_start` loads
    it), or else from random weights, with a tokenizer that is trained on the text. Steps and tokens
    count from there.

    Equal settings, text, versions, device and number of threads give equal bytes, also when the run
    was interrupted: it goes on from a state that `provenance` identifies, which must therefore name
    the checkpoint that `start` is. StudyError where the text cannot carry the vocabulary.
    """
    if (start is None) != (settings.start is None):
        raise ValueError("a start is loaded exactly where the settings name one")
    if start is None:
        tokenizer = tokenizer_from_text(source, settings)
        start = TrainedModel(initial_model(settings, tokenizer), tokenizer)
    run = _Run(settings, start, files, replace(provenance, seed=settings.seed), device)
    run.train(source, seconds_between_states)


class _Run:
    """A run in progress: model, optimizers, log and saved steps."""

    def __init__(
        self,
        settings: PretrainSettings,
        trained: TrainedModel,
        files: RunFiles,
        provenance: Provenance,
        device: str,
    ) -> None:
        self.settings = settings
        self.trained = trained
        self.files = files
        self.provenance = replace(provenance, dtype=settings.dtype, device=device)
        self.device = torch.device(device)
        self.model = trained.model
        self.model.to(self.device)  # type: ignore[arg-type]  # transformers annotates `to` wrongly
        self.anatomy = Anatomy.of(self.model)
        self.optimizers = make_optimizers(self.anatomy, settings.optimizer)
        self.batches = HalvedBatches(
            lambda rows: mean_loss(self.anatomy, rows, settings.dtype),
            list(self.model.parameters()),
            self.device.type,
        )
        self.log: list[TrainedStep] = []
        self.saved: list[SavedStep] = []
        self.state = ResumeState(files.resume_folder, settings_digest(asdict(self.provenance)))

    def train(self, source: TextSource, seconds_between_states: float) -> None:
        """Run every step that is still to do, then write log and manifest."""
        self._resume()
        if not self.log:
            self._save_if_asked()
        total = self.settings.total_steps
        batches = token_batches(source, self.trained.tokenizer, self.settings, len(self.log) + 1)
        bar: tqdm[None] = progress(
            total=total * self.settings.tokens_per_step,
            done=len(self.log) * self.settings.tokens_per_step,
            label="pretraining",
            unit="tok",
        )
        kept_at = time.monotonic()
        for batch in batches:
            self._step(batch)
            self._save_if_asked()
            _show(bar, self.log, batch.numel())
            if time.monotonic() - kept_at > seconds_between_states and len(self.log) < total:
                self._keep_state()
                kept_at = time.monotonic()
        bar.close()
        write_table(self.files.training, pl.DataFrame(self.log), self.provenance)
        last = self.log[-math.ceil(total / 10) :]
        write_manifest(self.files.manifest, self.saved, _mean_loss(last), self.provenance)
        self.state.remove()

    def _step(self, batch: Tensor) -> None:
        step = len(self.log) + 1
        factor = rate_factor(step, self.settings)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        _check_token_ids(batch, self.anatomy)
        loss = self.batches.backward(batch.to(self.device))
        self.batches.run(self._update)
        self.log.append(
            TrainedStep(
                step=step,
                phase=phase_of(self.settings, step),
                context=batch.shape[1],
                loss=loss,
                rate=self.settings.optimizer.rate * factor,
                tokens=step * self.settings.tokens_per_step,
            )
        )

    def _update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.optimizer.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def _save_if_asked(self) -> None:
        step = len(self.log)
        if step not in self.settings.saved_steps:
            return
        since = self.log[self.saved[-1].step if self.saved else 0 :]
        self.saved.append(
            save_step(
                self.files.run,
                self.trained,
                replace(self.provenance, checkpoint=str(step)),
                step=step,
                tokens=step * self.settings.tokens_per_step,
                phase=phase_of(self.settings, step),
                loss=_mean_loss(since) if since else None,
            )
        )

    def _keep_state(self) -> None:
        save_state(
            self.state,
            self.model,
            self.optimizers,
            {"log": [asdict(row) for row in self.log], "saved": [asdict(s) for s in self.saved]},
        )

    def _resume(self) -> None:
        """Go on from a kept state, unless checkpoints that it counts on are no longer there."""
        weights = [parameter.detach().clone() for parameter in self.model.parameters()]
        found = restore_state(self.state, self.model, self.optimizers)
        if found is None:
            return
        saved = [SavedStep(**row) for row in found["saved"]]
        if all(step.is_whole(self.files.run) for step in saved):
            self.log = [TrainedStep(**row) for row in found["log"]]
            self.saved = saved
            return
        with torch.no_grad():
            for parameter, weight in zip(self.model.parameters(), weights, strict=True):
                parameter.copy_(weight)
        self.optimizers = make_optimizers(self.anatomy, self.settings.optimizer)


def initial_model(
    settings: PretrainSettings, tokenizer: PreTrainedTokenizerFast
) -> LlamaForCausalLM:
    """Return the untrained model; its weights are drawn by the seed alone."""
    size = settings.model
    end = tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads or size.heads,
        max_position_embeddings=size.positions,
        rope_parameters={"rope_type": "default", "rope_theta": size.rope_base},
        tie_word_embeddings=size.tied_embeddings,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return LlamaForCausalLM(config)


def mean_loss(anatomy: Anatomy, batch: Tensor, dtype: str) -> Tensor:
    """Return the mean cross-entropy of next tokens, in nats, of `batch` [sequence, position]."""
    with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
        states = anatomy.base(input_ids=batch, use_cache=False).last_hidden_state
        logits = anatomy.logits_of_normed(states[:, :-1].flatten(0, 1))
    return functional.cross_entropy(logits.float(), batch[:, 1:].flatten())


def _check_token_ids(batch: Tensor, anatomy: Anatomy) -> None:
    embedded = next(anatomy.embedding.parameters()).shape[0]
    if (largest := int(batch.max())) >= embedded:
        raise StudyError(
            f"the text has token id {largest}, but the model embeds only {embedded} tokens; its "
            "tokenizer belongs to another model"
        )


def _mean_loss(rows: Sequence[TrainedStep]) -> float:
    return math.fsum(row.loss for row in rows) / len(rows)


def _show(bar: tqdm[None], log: Sequence[TrainedStep], tokens: int) -> None:
    bar.set_postfix(loss=f"{log[-1].loss:.3f}", phase=log[-1].phase, refresh=False)
    bar.update(tokens)
