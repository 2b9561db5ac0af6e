"""A checkpoint folder as a user has one: a tiny model with its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.manifest import CheckpointManifest, describe_checkpoint
from support.tiny_models import tiny_model
from support.tiny_study import tiny_lexicon
from support.tiny_tokenizers import word_level


def save_tiny_checkpoint(
    folder: Path, *, extra_words: str = "", architecture: str = "llama", **config: Any
) -> Path:
    """Save a tiny model of 4 layers; `extra_words` make its tokenizer another one."""
    tokenizer = word_level([*tiny_lexicon().splitlines(), extra_words])
    config = {"vocab_size": tokenizer.get_vocab_size()} | config
    tiny_model(architecture, **config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    return folder


def write_manifest(path: Path, weights: Path, *, source: str = "weights") -> CheckpointManifest:
    """Write the manifest of the saved checkpoint `tiny` `step1`."""
    manifest = describe_checkpoint(
        CheckpointLocation(str(weights)),
        model="tiny",
        checkpoint="step1",
        source=source,
        provenance={},
    )
    manifest.write(path)
    return manifest
