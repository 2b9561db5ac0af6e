"""Write a model's few-shot translation prompts with their tokens and patched positions."""

from pathlib import Path

import polars as pl

from glossogenesis.concepts.prompts import build_prompts
from glossogenesis.corpora.control_tokens import text_encoder
from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.models.loading import load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.weight_files import ModelLimits, read_config
from glossogenesis.storage.tables import write_table
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write every source and target prompt of one model."""
    arguments = program_arguments(
        __doc__,
        model={"type": str},
        lexicon={},
        checkpoint={"help": "manifest of the checkpoint whose tokenizer the model has"},
        output={},
    )
    settings = arguments.settings
    manifest = CheckpointManifest.read(arguments.checkpoint, weights=False)
    tokenizer = load_tokenizer(manifest.tokenizer_location)
    prompts = build_prompts(
        read_lexicon(arguments.lexicon, **settings["lexicon"]),
        text_encoder(tokenizer, add_special_tokens=settings["add_special_tokens"]),
        endonyms=settings["endonyms"],
        source_pairs=[tuple(pair) for pair in settings["source_pairs"]],
        measured_pairs=[tuple(pair) for pair in settings["measured_pairs"]],
        items=settings["items"],
        few_shot=settings["few_shot"],
        seed=settings["seed"],
        space_variants=settings["space_variants"],
    )
    print(prompts.summary)
    if (config := Path(manifest.folder) / "config.json").is_file():
        check_read_by(ModelLimits.of(read_config(config.parent)), prompts.table, str(config))
    provenance = provenance_of(
        arguments,
        "prompts",
        {"lexicon": arguments.lexicon},
        model=arguments.model,
        seed=settings["seed"],
        facts={"tokenizer_digest": manifest.tokenizer_digest, **prompts.counts},
    )
    write_table(arguments.output, prompts.table, provenance)


def check_read_by(limits: ModelLimits, prompts: pl.DataFrame, place: str) -> None:
    """StudyError where a model cannot read a prompt; say where it reads one unlike in training."""
    longest = max(prompts["token_ids"].list.len().to_list(), default=0)
    if line := limits.longer(longest, "prompts", place, "lower `concepts.few_shot`"):
        print(f"Warning: {line}")
    largest = max(prompts["token_ids"].list.max().drop_nulls().to_list(), default=0)
    limits.check_vocabulary(largest, "prompts", place)


if __name__ == "__main__":
    run_program(main)
