"""What stages cost before they run: memory, time and bytes from a model's size.

Rough on purpose: rules ask a cluster for these, `glossogenesis plan` adds them up, and a retry asks
for more. Operations are counted as 2 per weight and token forward, 6 with the backward pass
(Kaplan et al. 2020, arXiv:2001.08361).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from glossogenesis.config.models import DTYPE_BYTES
from glossogenesis.config.pretrain import PretrainSettings
from glossogenesis.config.source_pairs import source_pairs
from glossogenesis.config.study import Study

PROGRAM_MB = 1500
"""Memory of Python with torch and transformers before any model is loaded."""

MINUTES_TO_START = 5
"""Queue-side slack of a job: imports, loading, writing."""

CPU_OPERATIONS = 5e10
GPU_OPERATIONS = 1e14
"""Operations a second that a job can count on: about a third of an H100's peak in bfloat16, and two
ordinary processor cores in float32."""

TOKENS_PER_LINE = 16
"""Tokens in a demonstration line; 12 to 20 over the tokenizers seen."""


@dataclass(frozen=True)
class Cost:
    """What one job takes."""

    operations: float
    memory_mb: int
    disk_bytes: int
    gpus: int

    @property
    def hours(self) -> float:
        """Hours of computing, without waiting in a queue."""
        rate = GPU_OPERATIONS * self.gpus if self.gpus else CPU_OPERATIONS
        return self.operations / rate / 3600 + 10 / 3600

    def runtime_minutes(self, attempt: int = 1) -> int:
        """Minutes to ask a cluster for: four times the estimate, doubled at each retry."""
        return math.ceil(MINUTES_TO_START + 4 * 60 * self.hours) * 2 ** (attempt - 1)

    def requested_memory_mb(self, attempt: int = 1) -> int:
        """Memory to ask a cluster for, half as much again at each retry."""
        return math.ceil(self.memory_mb * 1.5 ** (attempt - 1))


def pretrained_parameters(settings: PretrainSettings) -> int:
    """Return the number of weights of a Llama-architecture model of the given sizes."""
    size = settings.model
    head_width = size.hidden // size.heads
    key_value_width = head_width * (size.key_value_heads or size.heads)
    attention = 2 * size.hidden**2 + 2 * size.hidden * key_value_width
    block = attention + 3 * size.hidden * size.feed_forward + 2 * size.hidden
    embeddings = size.vocabulary * size.hidden * (1 if size.tied_embeddings else 2)
    return size.layers * block + embeddings + size.hidden


def parameters_of(study: Study, model: str) -> float:
    """Return a model's number of weights, from the study or from its pretraining's sizes."""
    given = study.settings.models[model].parameters
    if given is not None:
        return given
    name = study.checkpoints_of(model)[0].pretrained_by
    return float(pretrained_parameters(study.settings.pretrain[name or ""]))


def model_bytes(study: Study, model: str) -> int:
    """Return the bytes of a model's weights in its number format."""
    return int(parameters_of(study, model) * DTYPE_BYTES[study.settings.models[model].dtype])


def pretraining_cost(study: Study, name: str) -> Cost:
    """Return what a pretraining run takes; weights are saved in float32 at every saved step."""
    settings = study.settings.pretrain[name]
    weights = pretrained_parameters(settings)
    rows = [row for row in study.sheet if row.pretrained_by == name]
    return Cost(
        operations=6 * weights * settings.total_steps * settings.batch * settings.context,
        # Weights, gradients and two moments, and activations of a batch.
        memory_mb=PROGRAM_MB + int(16 * weights / 1e6) + 2000,
        disk_bytes=4 * weights * len(settings.saved_steps),
        gpus=max((study.settings.models[row.model].gpus for row in rows), default=0),
    )


def checkpoint_cost(study: Study, model: str) -> Cost:
    """Return what fetching one checkpoint takes; one that the workflow trains is already there."""
    trained_here = study.checkpoints_of(model)[0].pretrained_by is not None
    return Cost(0.0, 500, 0 if trained_here else model_bytes(study, model), 0)


def states_cost(study: Study, model: str) -> Cost:
    """Return what the source states of one checkpoint take."""
    concepts = study.concepts
    pairs = {pair for by in source_pairs(study).values() for group in by.values() for pair in group}
    prompts = len(pairs) * concepts.items
    tokens = prompts * (concepts.few_shot + 1) * TOKENS_PER_LINE
    parameters = parameters_of(study, model)
    # A decoder has about 12 d² weights a layer, so layers x d ~ weights / (12 d); d ~ weights^(1/3).
    layers_times_width = parameters ** (2 / 3) / 12 * 4
    state_bytes = prompts * layers_times_width * DTYPE_BYTES[study.settings.models[model].dtype]
    return _model_job(study, model, 2 * parameters * tokens, int(state_bytes))


def patching_cost(study: Study, model: str) -> Cost:
    """Return what the patched runs of one checkpoint take, on the fast path.

    A sweep of all start layers costs suffix tokens through half the layers for each setting; a
    generated answer costs new tokens through all layers for each start layer.
    """
    concepts = study.concepts
    prompts = len(concepts.measured_pairs) * concepts.items
    prefill = prompts * (concepts.few_shot + 1) * TOKENS_PER_LINE
    sweep = len(concepts.start_layers) if isinstance(concepts.start_layers, tuple) else 24
    generated = len(concepts.generate_at) if isinstance(concepts.generate_at, tuple) else sweep
    rows = len(concepts.target_pairs) * concepts.items * len(concepts.settings)
    suffix = rows * (sweep * 6 * 0.5 + generated * concepts.max_new_tokens)
    operations = 2 * parameters_of(study, model) * (prefill + suffix)
    if concepts.mode == "reference":
        operations = 2 * parameters_of(study, model) * (prefill + prefill / prompts * rows * sweep)
    return _model_job(study, model, operations, rows * max(sweep, 1) * 40)


def _model_job(study: Study, model: str, operations: float, disk_bytes: int) -> Cost:
    gpus = study.settings.models[model].gpus
    memory = PROGRAM_MB + int(2.2 * model_bytes(study, model) / 1e6) + 2 * disk_bytes // 10**6
    return Cost(operations, memory, disk_bytes, gpus)
