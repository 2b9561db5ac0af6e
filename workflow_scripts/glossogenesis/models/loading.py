"""Load a checkpoint's model and tokenizer, from safetensors only.

Code of the checkpoint's own repository is run only where the study names that repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.checkpoints import (
    CheckpointLocation,
    LocalCheckpoint,
    how_to_allow_code,
    local_files,
    may_run_code,
)
from glossogenesis.models.device import resolve_device
from glossogenesis.models.weight_files import check_supported, check_weights, read_config

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, without gradients, and what it was loaded from."""

    model: nn.Module
    anatomy: Anatomy
    files: LocalCheckpoint


def load_model(
    location: CheckpointLocation,
    *,
    dtype: str = "float32",
    device: str = "auto",
    head: Literal["causal", "classifier"] = "causal",
) -> LoadedModel:
    """Load a causal language model or, with `head="classifier"`, a sequence classifier.

    Args:
        location: a folder or a Hub id with revision and subfolder.
        dtype: `float32`, `bfloat16` or `float16`, for weights and activations.
        device: `auto`, `cpu` or `cuda`.
        head: `causal` or `classifier`.

    Raises:
        StudyError: the architecture is unsupported or needs foreign code, or weights are pickles,
            missing, truncated, or do not cover the model.
    """
    files = local_files(location)
    has_code = may_run_code(files.folder, location.remote_code)
    check_supported(read_config(files.folder), files.folder / "config.json")
    check_weights(files.folder)
    model = _from_files(files, dtype=dtype, classifier=head == "classifier", has_code=has_code)
    model = model.to(resolve_device(device)).eval().requires_grad_(False)
    return LoadedModel(model, Anatomy.of(model), files)


def load_tokenizer(location: CheckpointLocation) -> PreTrainedTokenizerBase:
    """Load the tokenizer from the same revision as the weights.

    It comes from the subfolder, or from the root of the checkpoint where the subfolder has none.

    Raises:
        StudyError: there is no tokenizer, or it cannot be read.
    """
    from transformers import AutoTokenizer

    folder = local_files(location, weights=False).tokenizer_folder
    has_code = may_run_code(folder, location.remote_code)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=has_code, local_files_only=True
        )
    except Exception as error:  # tokenizers raises this very class where a file is no tokenizer
        fix = "" if has_code else how_to_allow_code(folder)
        raise StudyError(
            f"{folder}: no loadable tokenizer ({_first_line(error)}); save the tokenizer beside "
            f"the weights{fix}"
        ) from None
    return tokenizer


def _from_files(
    files: LocalCheckpoint, *, dtype: str, classifier: bool, has_code: bool
) -> nn.Module:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if dtype not in _DTYPES:
        raise StudyError(f"dtype {dtype!r} is not one of {', '.join(_DTYPES)}; fix `models`")
    loader: Any = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
    try:
        model, report = loader.from_pretrained(
            files.folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=has_code,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises whatever a wrong configuration leads to
        raise StudyError(
            f"{files.folder}: cannot be loaded ({_first_line(error)}); check its config.json and "
            "that the weights are this model's"
        ) from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise StudyError(
            f"{files.folder}: the weight files lack {len(missing)} weights of the model "
            f"({', '.join(missing[:3])}); they would be random. Save the checkpoint whole"
        )
    loaded: nn.Module = model
    return loaded


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
