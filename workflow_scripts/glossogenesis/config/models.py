"""Section `models`: how each model of the checkpoint sheet is loaded and run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from glossogenesis.config.hub import HubId
from glossogenesis.study.section import IsSource, Name, Section

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class EveryLayer(Section):
    """Layers at a regular distance."""

    every: Annotated[int, Field(ge=1)]
    """Every how many layers one is taken, counted back from the last."""


class ModelSettings(Section):
    """One model; its checkpoints stand in the sheet."""

    label: str | None = None
    """The name that figures print; the model's key where absent."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The number format of weights and activations."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; `auto` takes a GPU where there is one."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Prompts in one forward pass."""
    parameters: Annotated[float, Field(gt=0)] | None = None
    """Number of weights, for example `1.7e9`: memory, time and disk are planned from it. Needed
    unless the model is pretrained by the workflow."""
    n_layers: Annotated[int, Field(ge=1)] | None = None
    """Number of decoder blocks. The features and robustness studies need it for `layers: all` and
    `every`, unless the model is pretrained by the workflow."""
    layers: (
        Literal["all"] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    ) | EveryLayer = "all"
    """Layers that autoencoders are trained on: `all`, a list such as `[0, 5, 11]`, or `{every: 2}`,
    counted back from the last."""
    layers_per_job: Annotated[int, Field(ge=1)] | None = None
    """Layers that one job of the features study does: collects the features of, matches, and trains
    at once where it streams. All where absent; fewer need less memory."""
    shares_tokenizer_with: Name | None = None
    """A model of the sheet whose tokenizer is the same, so that corpora are tokenised once for
    both; that it is the same is checked."""
    tokenizer: Annotated[str, IsSource] | None = None
    """A Hub id or a folder to take the tokenizer from, for checkpoints that ship none; a folder
    begins with a dot, a slash or a tilde, and a relative one counts from the study file's."""
    remote_code: HubId | None = None
    """A Hub repository, `organisation/name`, whose own Python code this model may run. All its rows
    must have it as `source`, at full commits. No code of a repository is run where left out."""
    add_special_tokens: bool = True
    """Whether the tokenizer's own special tokens (such as a start token) open a prompt."""
    gpus: Annotated[int, Field(ge=0)] = 1
    """GPUs that a job of this model asks a cluster for."""
    threads: Annotated[int, Field(ge=1)] = 4
    """Processor threads of a job of this model."""
