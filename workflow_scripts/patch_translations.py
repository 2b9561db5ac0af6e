"""Patch source states into target prompts and score what the model then answers.

Every setting, start layer and target pair of one checkpoint, from one load of its weights.
"""

from typing import Any

import polars as pl

from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.corpora.prompt_table import answers_too_long
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.patching.pair_scorer import AnswerWords
from glossogenesis.patching.states import check_tokenizer, states_from_file
from glossogenesis.patching.translation import (
    Decode,
    PatchingPlan,
    check_in_float32,
    layers_of,
    patch_translations,
    quote_tokens,
)
from glossogenesis.program import program_arguments, provenance_of, run_program
from glossogenesis.storage import tables, tensors


def main() -> None:
    """Write the patched and unpatched answers of one checkpoint."""
    arguments = program_arguments(
        __doc__,
        checkpoint={"help": "manifest of the checkpoint"},
        prompts={},
        states={},
        lexicon={},
        batch_size={"type": int},
        device={"type": str},
        output={},
    )
    settings = arguments.settings
    manifest = CheckpointManifest.read(arguments.checkpoint)
    check_tokenizer(manifest, tables.read_provenance(arguments.prompts), arguments.checkpoint)
    tokenizer = load_tokenizer(manifest.tokenizer_location)
    loaded = load_model(manifest.location, dtype=settings["dtype"], device=arguments.device)
    states = states_from_file(
        tensors.read_tensors(arguments.states), tensors.read_provenance(arguments.states)
    )
    words = AnswerWords(read_lexicon(arguments.lexicon, **settings["lexicon"]), settings["spaced"])

    def decode(token_ids: Any) -> str:
        return str(tokenizer.decode(token_ids, clean_up_tokenization_spaces=False))

    prompts = tables.read_table(arguments.prompts)
    too_long = answers_too_long(prompts, settings["max_new_tokens"])
    print(
        f"{too_long} of {prompts.height} prompts ask for a word of more than "
        f"{settings['max_new_tokens']} tokens (`concepts.max_new_tokens`) and cannot be answered"
    )
    plan = plan_of(settings, loaded.anatomy, decode, arguments.batch_size)
    exact = check_in_float32(loaded.anatomy, prompts, states, plan)
    rows: pl.DataFrame = patch_translations(loaded.anatomy, prompts, states, words, decode, plan)
    provenance = provenance_of(
        arguments,
        "patching",
        {
            "prompts": arguments.prompts,
            "checkpoint": arguments.checkpoint,
            "states": arguments.states,
            "lexicon": arguments.lexicon,
        },
        model=manifest.model,
        checkpoint=manifest.checkpoint,
        revision=manifest.commit,
        dtype=settings["dtype"],
        device=loaded.anatomy.device.type,
        facts={"prompts_whose_answer_is_too_long": too_long, **exact.facts},
    )
    tables.write_table(arguments.output, rows, provenance)


def plan_of(
    settings: dict[str, Any], anatomy: Anatomy, decode: Decode, batch_size: int
) -> PatchingPlan:
    """Return the plan that the study's settings ask of this model."""
    start_layers = layers_of(settings["start_layers"], anatomy.n_layers, "start_layers")
    generate_at = layers_of(settings["generate_at"], anatomy.n_layers, "generate_at")
    return PatchingPlan(
        settings=tuple(settings["settings"]),
        source_pairs=settings["source_pairs"],
        start_layers=start_layers,
        generate_at=tuple(layer for layer in generate_at if layer in start_layers),
        max_new_tokens=settings["max_new_tokens"],
        stop_ids=quote_tokens(anatomy.config.vocab_size, decode),
        mode=settings["mode"],
        batch_size=batch_size,
    )


if __name__ == "__main__":
    run_program(main)
