"""What stages cost before they run: memory, time and bytes from a model's size.

Rough on purpose: rules ask a cluster for these, `glossogenesis plan` adds them up, and a retry asks
for more. Operations are counted as 2 per weight and token forward, 6 with the backward pass
(Kaplan et al. 2020, arXiv:2001.08361).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from glossogenesis.study.inputs import DTYPE_BYTES
from glossogenesis.study.pretrain import ModelSize
from glossogenesis.study.study import Study
from glossogenesis.workflow.jobs_concepts import source_pairs

PROGRAM_MB = 1500
"""Memory of Python with torch and transformers before any model is loaded."""

LIGHT_MB = 4000
"""Memory of a job that holds tables alone."""

MINUTES_TO_START = 5
"""Queue-side slack of a job: imports, loading, writing."""

CPU_OPERATIONS = 8e10
GPU_OPERATIONS = 1e14
"""Operations a second that a job can count on: a third of an A100's peak in bfloat16, or a tenth of
an H100's, and less than half of what two processor cores were measured to do in float32."""

READ_BYTES = 2e8
"""Bytes a second at which weights are downloaded, checksummed or loaded."""

TOKENS_PER_LINE = 16
"""Tokens in a demonstration line; 12 to 20 over the tokenizers seen."""

SUFFIX_TOKENS = 6
"""Tokens between the query word and the answer: quote, dash, the language's name, colon, quote."""

LARGE_VOCABULARY = 150_000
"""Tokens of a large multilingual model."""

WIDTH_TO_DEPTH = 85
"""Width of the residual stream over number of layers; 40 to 130 over the supported decoders."""


@dataclass(frozen=True)
class Cost:
    """What one job takes."""

    operations: float
    memory_mb: int
    disk_bytes: int
    """Artifacts, which stay."""
    gpus: int
    read_bytes: int = 0
    """Weights that are downloaded or loaded."""
    scratch_bytes: int = 0
    """On the disk while the job runs."""
    asked_minutes: int = 0
    """To ask a cluster for where there is no estimate."""

    @property
    def hours(self) -> float:
        """Hours of computing, without waiting in a queue."""
        rate = GPU_OPERATIONS * self.gpus if self.gpus else CPU_OPERATIONS
        seconds = 10 + self.operations / rate + self.read_bytes / READ_BYTES
        return seconds / 3600

    @property
    def disk_mb(self) -> int:
        """Disk space to ask a cluster for."""
        return 100 + (self.disk_bytes + self.scratch_bytes) // 10**6

    def runtime_minutes(self, attempt: int = 1) -> int:
        """Minutes to ask a cluster for: four times the estimate, doubled at each retry."""
        minutes = self.asked_minutes or math.ceil(MINUTES_TO_START + 4 * 60 * self.hours)
        return minutes * int(2 ** (attempt - 1))

    def requested_memory_mb(self, attempt: int = 1) -> int:
        """Memory to ask a cluster for, half as much again at each retry."""
        return math.ceil(self.memory_mb * 1.5 ** (attempt - 1))


def pretrained_parameters(size: ModelSize) -> int:
    """Return the number of weights of a Llama-architecture model of the given sizes."""
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
    size = study.trained_size_of(model)
    assert size is not None, "checked in `check_study`"
    return float(pretrained_parameters(size))


def model_bytes(study: Study, model: str) -> int:
    """Return the bytes of a model's weights in its number format."""
    return int(parameters_of(study, model) * DTYPE_BYTES[study.settings.models[model].dtype])


def depth_and_width(study: Study, model: str) -> tuple[float, float]:
    """Return a model's layers and the width of its residual stream.

    Exact where the workflow trains the model, else from its number of weights: a decoder has about
    12 d² weights a layer, and `WIDTH_TO_DEPTH` fixes the rest.
    """
    size = study.trained_size_of(model)
    if size is not None:
        return size.layers, size.hidden
    layers = (parameters_of(study, model) / (12 * WIDTH_TO_DEPTH**2)) ** (1 / 3)
    return layers, WIDTH_TO_DEPTH * layers


def pretraining_cost(study: Study, pretraining: str) -> Cost:
    """Return what a pretraining run takes; weights are saved in float32 at every saved step."""
    settings = study.settings.pretrain[pretraining]
    rows = [row for row in study.sheet if row.pretrained_by == pretraining]
    size = study.size_of(pretraining)
    if size is not None:
        weights = float(pretrained_parameters(size))
        layers, hidden = float(size.layers), float(size.hidden)
        inner, vocabulary = size.feed_forward, size.vocabulary
    else:
        # It continues a model from elsewhere, which its rows of the sheet describe.
        weights = parameters_of(study, rows[0].model) if rows else 0.0
        layers, hidden = depth_and_width(study, rows[0].model) if rows else (0.0, 0.0)
        inner, vocabulary = int(4 * hidden), LARGE_VOCABULARY
    # What the backward pass needs of each token: a dozen vectors and the MLP's inner ones a block,
    # and the logits with their gradient.
    kept = layers * (12 * hidden + 4 * inner) + 3 * vocabulary
    activation_bytes = 4 * settings.tokens_per_step * kept
    return Cost(
        operations=6 * weights * settings.total_steps * settings.tokens_per_step,
        # Weights, gradients and two moments, in float32.
        memory_mb=PROGRAM_MB + int((16 * weights + activation_bytes) / 10**6),
        disk_bytes=int(4 * weights) * len(settings.saved_steps),
        gpus=max((study.settings.models[row.model].gpus for row in rows), default=0),
    )


def checkpoint_cost(study: Study, model: str) -> Cost:
    """Return what fetching one checkpoint takes; local ones and those trained here take no disk."""
    is_here = not study.checkpoints_of(model)[0].is_on_hub
    weights = model_bytes(study, model)
    # A download is read twice: from the network and for its checksum.
    return Cost(0.0, 500, 0 if is_here else weights, 0, weights if is_here else 2 * weights)


def states_cost(study: Study, model: str) -> Cost:
    """Return what the source states of one checkpoint take."""
    prompts = _source_prompts(study)
    tokens = prompts * (study.concepts.few_shot + 1) * TOKENS_PER_LINE
    state_bytes = _state_bytes(study, model)
    return _model_job(
        study,
        model,
        operations=2 * parameters_of(study, model) * tokens,
        disk_bytes=state_bytes,
        # All states are held, and copied when they are written.
        held_bytes=2 * state_bytes,
    )


def patching_cost(study: Study, model: str) -> Cost:
    """Return what the patched runs of one checkpoint take.

    On the fast path, a sweep of start layers costs the suffix tokens through half the layers for
    each setting and start layer; a generated answer costs its tokens through all layers, which is
    an upper bound, since equal answers share the layers below the patch. In reference mode every
    setting and start layer costs a whole prompt.
    """
    concepts = study.concepts
    depth, _ = depth_and_width(study, model)
    prompt = (concepts.few_shot + 1) * TOKENS_PER_LINE
    unpatched = 2 * len(concepts.measured_pairs) * concepts.items * prompt
    starts = _number(concepts.start_layers, depth)
    generated = min(_number(concepts.generate_at, depth), starts)
    rows = len(concepts.target_pairs) * concepts.items * len(concepts.settings)
    sweep = starts * (prompt if concepts.mode == "reference" else SUFFIX_TOKENS / 2)
    tokens = unpatched + rows * (sweep + generated * concepts.max_new_tokens)
    return _model_job(
        study,
        model,
        operations=2 * parameters_of(study, model) * tokens,
        # A row of the table takes about 40 bytes when compressed.
        disk_bytes=int(rows * starts * 40),
        # All states, and the mean over many of them in float32.
        held_bytes=4 * _state_bytes(study, model),
    )


def _source_prompts(study: Study) -> int:
    """Return the number of source prompts: a concept once for each language pair."""
    concepts = study.concepts
    pairs = {pair for by in source_pairs(study).values() for group in by.values() for pair in group}
    limit = study.lexicon.limit
    most = concepts.items if limit is None else min(concepts.items, limit)
    return len(pairs | set(concepts.measured_pairs)) * most


def _state_bytes(study: Study, model: str) -> int:
    """Return the bytes of the states of all source prompts in all layers."""
    depth, width = depth_and_width(study, model)
    number_bytes = DTYPE_BYTES[study.settings.models[model].dtype]
    return int(_source_prompts(study) * depth * width * number_bytes)


def _number(layers: str | tuple[int, ...], depth: float) -> float:
    return depth if isinstance(layers, str) else len(layers)


def _model_job(
    study: Study, model: str, *, operations: float, disk_bytes: int, held_bytes: int
) -> Cost:
    """Return the cost of a job that loads a model and holds `held_bytes` beside it."""
    settings = study.settings.models[model]
    weights = model_bytes(study, model)
    depth, width = depth_and_width(study, model)
    prompt = (study.concepts.few_shot + 1) * TOKENS_PER_LINE
    # Keys, values, and as much again on the way, of a batch of prompts.
    batch = settings.batch_size * prompt * depth * width * 4 * DTYPE_BYTES[settings.dtype]
    memory_mb = PROGRAM_MB + int((2.2 * weights + held_bytes + batch) / 1e6)
    return Cost(operations, memory_mb, disk_bytes, settings.gpus, weights)
