"""A checkpoint folder as a user has one: a tiny model with its tokenizer."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from glossogenesis.models.files import CheckpointLocation
from glossogenesis.models.manifest import CheckpointManifest, describe_checkpoint
from tiny_models import tiny_model
from tiny_study import tiny_lexicon
from tiny_tokenizers import word_level


def save_tiny_checkpoint(folder: Path, *, extra_words: str = "") -> Path:
    """Save a tiny Llama of 4 layers; `extra_words` make its tokenizer another one."""
    tiny_model("llama").save_pretrained(folder)
    tokenizer = word_level([*tiny_lexicon().splitlines(), extra_words])
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
