"""Patch source states into target prompts and score what the model then answers.

Every setting, start layer and target pair of one checkpoint, from one load of its weights.
"""

import argparse
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.concepts.prompts import answers_too_long
from glossogenesis.concepts.scoring import CLOSING_QUOTE, PATCHING_SCHEMA, AnswerWords
from glossogenesis.concepts.states import states_from_file
from glossogenesis.concepts.translation import (
    PatchingPlan,
    check_in_float32,
    layers_of,
    patch_translations,
)
from glossogenesis.corpora.control_tokens import AnswerTokens
from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.exceptions import NotFiniteError, StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import CheckedInFloat32
from glossogenesis.models.device import resolve_device
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.weight_files import ModelLimits, read_config
from glossogenesis.storage import tables, tensors
from glossogenesis.storage.provenance import LEFT_OUT, reason_left_out
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


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
    prompts_tokenizer = tables.read_provenance(arguments.prompts).facts["tokenizer_digest"]
    manifest.check_tokenizer(prompts_tokenizer, arguments.prompts)
    prompts = tables.read_table(arguments.prompts)
    too_long = answers_too_long(prompts, settings["max_new_tokens"])
    print(
        f"{too_long} of {prompts.height} prompts ask for a word of more than "
        f"{settings['max_new_tokens']} tokens (`concepts.max_new_tokens`) and cannot be answered"
    )
    longest = max(prompts["token_ids"].list.len().to_list(), default=0) + settings["max_new_tokens"]
    config = Path(manifest.folder) / "config.json"
    limits = ModelLimits.of(read_config(config.parent))
    fix = "lower `concepts.few_shot` or `concepts.max_new_tokens`"
    if line := limits.longer(longest, "prompts with their answers", str(config), fix):
        print(f"Warning: {line}")
    rows = PATCHING_SCHEMA.to_frame()
    facts: dict[str, Any] = {"prompts_whose_answer_is_too_long": too_long}
    device = resolve_device(arguments.device)
    reason = reason_left_out(tensors.read_provenance(arguments.states))
    if reason is None:
        try:
            rows, exact = patched_rows(arguments, manifest, prompts, device)
            facts |= exact.facts
        except NotFiniteError as error:
            reason = f"{manifest.model} {manifest.checkpoint}, {error}"
            if settings["on_diverged"] == "stop":
                raise StudyError(reason) from None
    if reason is not None:
        facts[LEFT_OUT] = reason
        print(f"Left out: {reason}")
    provenance = provenance_of(
        arguments,
        "patching",
        {
            "prompts": arguments.prompts,
            "checkpoint": arguments.checkpoint,
            "states": arguments.states,
            "lexicon": arguments.lexicon,
        },
        **manifest.origin,
        dtype=settings["dtype"],
        device=device,
        facts=facts,
    )
    tables.write_table(arguments.output, rows, provenance)


def patched_rows(
    arguments: argparse.Namespace, manifest: CheckpointManifest, prompts: pl.DataFrame, device: str
) -> tuple[pl.DataFrame, CheckedInFloat32]:
    """Return the rows of every setting, start layer and pair, and what was checked in float32."""
    settings = arguments.settings
    tokenizer = load_tokenizer(manifest.tokenizer_location)
    loaded = load_model(manifest.location, dtype=settings["dtype"], device=device)
    states = states_from_file(
        tensors.read_tensors(arguments.states), tensors.read_provenance(arguments.states)
    )
    words = AnswerWords(read_lexicon(arguments.lexicon, **settings["lexicon"]), settings["spaced"])
    answers = AnswerTokens.of(tokenizer, loaded.model, CLOSING_QUOTE)
    plan = plan_of(settings, loaded.anatomy, answers.stop_ids, arguments.batch_size)
    exact = check_in_float32(loaded.anatomy, prompts, states, plan)
    rows = patch_translations(loaded.anatomy, prompts, states, words, answers.text, plan)
    return rows, exact


def plan_of(
    settings: dict[str, Any], anatomy: Anatomy, stop_ids: frozenset[int], batch_size: int
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
        stop_ids=stop_ids,
        mode=settings["mode"],
        batch_size=batch_size,
    )


if __name__ == "__main__":
    run_program(main)
