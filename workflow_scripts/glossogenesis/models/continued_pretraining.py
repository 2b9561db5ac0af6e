"""What continued pretraining starts from: the model and the tokenizer of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError
from glossogenesis.models.files import tokenizer_files
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.pretraining_files import TrainedModel
from glossogenesis.study.pretrain import PretrainSettings, StartPoint


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
