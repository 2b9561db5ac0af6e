"""Pretrain a model in phases, from random weights or from a checkpoint, and save it on the way."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.checkpoints import tokenizer_files
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.pretraining.optimizers import HalvedBatches, make_optimizers, rate_factor
from glossogenesis.pretraining.text import TextSource, token_batches, tokenizer_from_text
from glossogenesis.progress import progress
from glossogenesis.storage.files import atomic_path, write_json
from glossogenesis.storage.provenance import Provenance, file_digest, settings_digest
from glossogenesis.storage.tables import write_table
from glossogenesis.storage.tensors import ResumeState, write_safetensors
from glossogenesis.study.pretrain import PretrainSettings, StartPoint, folder_of_step, phase_of


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
    """Where a run writes: its manifest, with one folder per saved step beside it, and its log."""

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

    It starts from `start`, whose weights change (`checkpoint_start` loads
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


def checkpoint_start(
    manifest: CheckpointManifest, settings: PretrainSettings, *, device: str
) -> TrainedModel:
    """Load the checkpoint that `settings.start` names, ready for training.

    Weights are in float32 and have gradients. Dropout, where the architecture has it, stays off: a
    run then draws nothing, and an interrupted one ends like one that was not.

    Raises:
        StudyError: the manifest is of another checkpoint, the checkpoint cannot be loaded as a
            causal language model, its tokenizer has no fast form or no end-of-document token, or
            training sequences are longer than the model reads.
    """
    described_as = f"{manifest.model} {manifest.checkpoint}"
    if settings.start != StartPoint(model=manifest.model, checkpoint=manifest.checkpoint):
        raise StudyError(
            f"the manifest is of checkpoint {described_as}, which is not what `start` names; give "
            "the manifest of that checkpoint"
        )
    tokenizer = _checked_tokenizer(manifest, described_as)
    model: Any = load_model(manifest.location, dtype="float32", device=device).model
    _check_contexts(settings, model.config, described_as)
    return TrainedModel(
        model.requires_grad_(True),
        tokenizer,
        tuple(tokenizer_files(Path(manifest.tokenizer_folder))),
    )


def _checked_tokenizer(manifest: CheckpointManifest, described_as: str) -> Any:
    """Load the tokenizer; StudyError where training cannot use it."""
    tokenizer: Any = load_tokenizer(manifest.tokenizer_location)
    if not tokenizer.is_fast:
        raise StudyError(
            f"{described_as}: the tokenizer has no fast form, which training needs; save a "
            "tokenizer.json beside it"
        )
    if tokenizer.eos_token_id is None:
        raise StudyError(
            f"{described_as}: the tokenizer has no end-of-document token to put between documents; "
            "name its `eos_token` in tokenizer_config.json"
        )
    return tokenizer


def _check_contexts(settings: PretrainSettings, config: Any, described_as: str) -> None:
    # BLOOM, whose positions are ALiBi's, has no longest text.
    positions = getattr(config, "max_position_embeddings", None)
    longest = max([settings.context, *(short.context for short in settings.short_contexts)])
    if positions is not None and longest > positions:
        raise StudyError(
            f"{described_as}: reads {positions} tokens at most, but training sequences have "
            f"{longest}; lower `context`"
        )


def save_state(
    state: ResumeState, model: nn.Module, optimizers: Sequence[Optimizer], progress: Any
) -> None:
    """Replace the state; `progress` is anything JSON holds, and floats come back exactly."""
    tensors: dict[str, Tensor] = {
        f"model/{name}": tensor for name, tensor in model.named_parameters()
    }
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                tensors[f"optimizer/{number}/{index}/{key}"] = value
    state.save(tensors, progress)


def restore_state(
    state: ResumeState, model: nn.Module, optimizers: Sequence[Optimizer]
) -> Any | None:
    """Load the state into model and optimizers; return its progress, or None without one.

    A damaged state counts as none: the run then starts again.
    """
    found = state.load()
    if found is None:
        return None
    tensors, progress = found
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model/{name}"])
    for number, optimizer in enumerate(optimizers):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": _states_of(number, tensors)})
    return progress


def _states_of(number: int, tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Return the state of one optimizer by index of parameter."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, *rest = name.split("/")
        if kind == "optimizer" and rest[0] == str(number):
            states.setdefault(int(rest[1]), {})[rest[2]] = tensor
    return states


@dataclass(frozen=True)
class TrainedModel:
    """A causal language model in float32 that is being trained, with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    tokenizer_files: tuple[Path, ...] = ()
    """Files that checkpoints get copies of, so that their tokenizer has the digest of the one that
    was loaded; where there are none, transformers saves the tokenizer."""


@dataclass(frozen=True)
class SavedStep:
    """A checkpoint that was saved: where it stands in training, and its files."""

    step: int
    tokens: int
    phase: int
    loss: float | None
    """Mean loss of the steps since the last saved one, in nats a token; None at step 0."""
    folder: str
    files: dict[str, dict[str, Any]]
    """Size in bytes and SHA-256 of each file, by name."""

    def is_whole(self, run: Path) -> bool:
        """Return whether every file is still there with its digest."""
        paths = {run / self.folder / name: facts for name, facts in self.files.items()}
        return all(
            path.is_file() and file_digest(path) == facts["sha256"] for path, facts in paths.items()
        )


def save_step(
    run: Path,
    trained: TrainedModel,
    provenance: Provenance,
    *,
    step: int,
    tokens: int,
    phase: int,
    loss: float | None,
) -> SavedStep:
    """Write one checkpoint in the transformers format, each file under its name when complete."""
    folder = folder_of_step(run, step)
    if folder.exists():
        shutil.rmtree(folder)
    run.mkdir(parents=True, exist_ok=True)
    draft_prefix = f".{folder.name}."
    for abandoned in run.glob(f"{draft_prefix}*"):
        shutil.rmtree(abandoned)
    with tempfile.TemporaryDirectory(prefix=draft_prefix, dir=run) as draft:
        _save_all_but_weights(Path(draft), trained)
        for file in sorted(Path(draft).iterdir()):
            with atomic_path(folder / file.name) as temporary:
                shutil.copyfile(file, temporary)
    _save_weights(folder / "model.safetensors", trained.model, provenance)
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(folder.iterdir())
    }
    return SavedStep(step, tokens, phase, loss, folder.name, files)


def _save_all_but_weights(folder: Path, trained: TrainedModel) -> None:
    trained.model.config.save_pretrained(folder)
    assert trained.model.generation_config is not None
    trained.model.generation_config.save_pretrained(folder)
    if not trained.tokenizer_files:
        trained.tokenizer.save_pretrained(folder)
    for file in trained.tokenizer_files:
        shutil.copyfile(file, folder / file.name)


def _save_weights(path: Path, model: PreTrainedModel, provenance: Provenance) -> None:
    """Write the weights in float32; a tied output head is left out, as transformers does."""
    tied = model.all_tied_weights_keys
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    with atomic_path(path) as temporary:
        # transformers refuses weights whose metadata does not name the framework.
        write_safetensors(temporary, weights, {"format": "pt", **provenance.to_metadata()})


def write_manifest(path: Path, saved: list[SavedStep], loss: float, provenance: Provenance) -> None:
    """Write the manifest of a finished run; `loss` is the mean over its last tenth of steps."""
    write_json(
        path,
        {
            "checkpoints": [asdict(step) for step in saved],
            "final_loss": loss,
            "provenance": asdict(provenance),
        },
    )
