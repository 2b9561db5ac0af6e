"""Inject features of a later checkpoint into an earlier one, and measure what that changes.

Perplexity of held-out text in every language, and translations, with random controls.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.corpora.control_tokens import AnswerTokens, text_encoder
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import NotFiniteError, StudyError
from glossogenesis.injection.method import Method, injection_groups, variants_of
from glossogenesis.injection.perplexity import (
    LayerInjection,
    PerplexityRun,
    TwoModels,
    perplexity_table,
)
from glossogenesis.injection.tables import PERPLEXITY_SCHEMA, TRANSLATION_SCHEMA
from glossogenesis.injection.tasks import Comet, TranslationTask, load_comet, require_file, tasks_of
from glossogenesis.injection.translation import Decoding, translate, translation_table
from glossogenesis.models.device import resolve_device
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.residuals import check_layers
from glossogenesis.models.weight_files import ModelLimits, read_config
from glossogenesis.sae.files import WEIGHTS_FILE, check_origin, read_sae
from glossogenesis.sae.recovery import held_out_contexts
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.storage.provenance import LEFT_OUT, Provenance
from glossogenesis.storage.tables import read_provenance, read_table, write_table
from glossogenesis.workflow.left_out import reason_in
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


@dataclass(frozen=True)
class Translation:
    """What is translated, ready before any model is loaded."""

    tasks: list[TranslationTask]
    tokenizer: Any
    comet: Comet | None


def main() -> None:
    """Write the perplexities and translations of one target checkpoint."""
    arguments = program_arguments(
        __doc__,
        source={"help": "manifest of the checkpoint whose features are injected"},
        target={"help": "manifest of the checkpoint that they are injected into"},
        saes={"help": "folder of the source's layer_{layer}/{sae}/"},
        sae={"type": str, "help": "name of the autoencoder"},
        statistics={"help": "folder of the source's layer_{layer}/{sae}/statistics.parquet"},
        corpus={"help": "manifest of the tokenised corpus"},
        prompts={"nargs": "?", "default": None, "help": "prompts of the concepts study"},
        lexicon={"nargs": "?", "default": None, "help": "words that prompts ask for"},
        batch_size={"type": int},
        device={"type": str},
        output={"help": "perplexity.parquet"},
        translation_output={"nargs": "?", "default": None, "help": "translation.parquet"},
    )
    settings = arguments.settings
    _check_options(arguments)
    source, target = map(CheckpointManifest.read, (arguments.source, arguments.target))
    corpus = TokenisedCorpus.read(arguments.corpus)
    _check_tokenizers(source, target, corpus, arguments)
    files = _files(arguments)
    if reason := reason_in(path for name, path in files.items() if "_layer_" in name):
        _write_nothing(arguments, files, target, reason)
        return
    translation = _prepared(arguments, target)
    models = _models(source, target, arguments)
    check_layers(models.target, settings["layers"], f"{target.model} {target.checkpoint}")
    injections = [
        _injection(layer, models, source, arguments, files) for layer in settings["layers"]
    ]
    method = Method(settings["scale"], settings["mode"], settings["positions"])
    run = PerplexityRun(
        models,
        held_out_contexts(corpus, settings["contexts"]),
        method,
        n_languages=len(corpus.languages),
        batch_size=arguments.batch_size,
    )
    injections = [run.matched(injection) for injection in injections]
    try:
        losses = run.losses(injections, settings["alpha"])
    except NotFiniteError as error:
        if settings["on_diverged"] == "stop":
            raise
        reason = f"{target.model} {target.checkpoint}, {error}"
        _write_nothing(arguments, files, target, reason)
        return
    table = perplexity_table(
        losses,
        injections,
        settings["alpha"],
        corpus.languages,
        Bootstrap(settings["resamples"], settings["seed"]),
    )
    exact = run.check_in_float32(settings["layers"])
    facts = {"source": source.checkpoint, "source_revision": source.commit, "sae": arguments.sae}
    facts |= exact.facts
    provenance = _provenance(arguments, "injection_perplexity", files, target, facts)
    write_table(arguments.output, table, provenance)
    if arguments.translation_output is not None:
        rows = pl.DataFrame(schema=TRANSLATION_SCHEMA)
        signatures: dict[str, str] = {}
        if translation is not None:
            rows, signatures = _translations(
                arguments, translation, models, injections, method, corpus.drop_first
            )
        provenance = _provenance(
            arguments,
            "injection_translation",
            files,
            target,
            {**facts, "sacrebleu": signatures},
        )
        write_table(arguments.translation_output, rows, provenance)


def _check_options(arguments: argparse.Namespace) -> None:
    """StudyError, before anything is computed, where an option that is needed is not given."""
    translation = arguments.settings["translation"]
    if translation is not None and arguments.translation_output is None:
        raise StudyError("a translation is asked for; give `--translation-output`")
    if translation is not None and translation["kind"] == "prompts":
        require_file(arguments.prompts, "prompts")
        require_file(arguments.lexicon, "lexicon")


def _check_tokenizers(
    source: CheckpointManifest,
    target: CheckpointManifest,
    corpus: TokenisedCorpus,
    arguments: argparse.Namespace,
) -> None:
    """StudyError where models, corpus and prompts do not share a tokenizer."""
    for manifest in (source, target):
        manifest.check_tokenizer(corpus.tokenizer_digest, arguments.corpus)
        if arguments.prompts is not None:
            prompts = read_provenance(arguments.prompts)
            manifest.check_tokenizer(prompts.facts["tokenizer_digest"], arguments.prompts)


def _models(
    source: CheckpointManifest, target: CheckpointManifest, arguments: argparse.Namespace
) -> TwoModels:
    """Load both models; StudyError where they differ in width."""
    models = TwoModels(
        *(
            load_model(
                manifest.location, dtype=arguments.settings["dtype"], device=arguments.device
            ).anatomy
            for manifest in (source, target)
        )
    )
    if models.source.d_model != models.target.d_model:
        raise StudyError(
            f"{arguments.source}: a model of width {models.source.d_model}, but the target's is "
            f"{models.target.d_model}; inject between checkpoints of one model"
        )
    return models


def _files(arguments: argparse.Namespace) -> dict[str, Path]:
    """Every input file by its name in the provenance."""
    files = {name: getattr(arguments, name) for name in ("source", "target", "corpus")}
    for name in ("prompts", "lexicon"):
        if getattr(arguments, name) is not None:
            files[name] = getattr(arguments, name)
    for layer in arguments.settings["layers"]:
        place = Path(f"layer_{layer}") / arguments.sae
        files[f"sae_layer_{layer}"] = arguments.saes / place / WEIGHTS_FILE
        files[f"statistics_layer_{layer}"] = arguments.statistics / place / "statistics.parquet"
    return files


def _injection(
    layer: int,
    models: TwoModels,
    source: CheckpointManifest,
    arguments: argparse.Namespace,
    files: Mapping[str, Path],
) -> LayerInjection:
    """Choose the groups of one layer and draw their controls."""
    settings = arguments.settings
    weights, statistics = files[f"sae_layer_{layer}"], files[f"statistics_layer_{layer}"]
    check_origin(weights, source.model, source.checkpoint, layer)
    sae = read_sae(weights, d_model=models.target.d_model).to(models.target.device)
    groups = injection_groups(
        read_table(statistics),
        sae.n_latents,
        languages=settings["languages"],
        minimum_monosemanticity=settings["minimum_monosemanticity"],
        path=statistics,
    )
    sizes = ", ".join(f"{name} {len(latents)}" for name, latents in groups.by_name.items())
    print(f"layer {layer}: {sizes}, of {len(groups.alive)} features that fire")
    variants = variants_of(
        groups,
        d_model=sae.d_model,
        draws=settings["draws"],
        seed=settings["seed"],
        layer=layer,
    )
    return LayerInjection(layer, sae, variants)


def _prepared(arguments: argparse.Namespace, target: CheckpointManifest) -> Translation | None:
    """What is translated, and COMET where it is asked for; None where nothing is."""
    settings = arguments.settings
    if settings["translation"] is None:
        return None
    comet = None
    if settings["comet"] is not None:
        gpu = resolve_device(arguments.device) == "cuda"
        comet = load_comet(settings["comet"], batch_size=arguments.batch_size, gpu=gpu)
    tokenizer = load_tokenizer(target.tokenizer_location)
    encode = text_encoder(tokenizer, add_special_tokens=settings["add_special_tokens"])
    tasks = tasks_of(settings, arguments.prompts, arguments.lexicon, encode)
    config = Path(target.folder) / "config.json"
    longest = max(len(prompt) for task in tasks for prompt in task.prompts)
    if config.is_file() and (
        line := ModelLimits.of(read_config(config.parent)).longer(
            longest + settings["translation"]["max_new_tokens"],
            "prompts with their translations",
            str(config),
            "lower `features.injection.translation.few_shot`, or give shorter lines",
        )
    ):
        print(f"Warning: {line}")
    return Translation(tasks, tokenizer, comet)


def _translations(
    arguments: argparse.Namespace,
    translation: Translation,
    models: TwoModels,
    injections: list[LayerInjection],
    method: Method,
    skip_first: bool,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Rows of the translation table, and sacrebleu's signatures."""
    settings, tasks, tokenizer = arguments.settings, translation.tasks, translation.tokenizer
    decoding = Decoding(
        AnswerTokens.of(tokenizer, models.target.model, tasks[0].ends_at),
        max_new_tokens=settings["translation"]["max_new_tokens"],
        skip_first=skip_first,
    )
    alphas, batch_size = settings["alpha"], arguments.batch_size
    answers = translate(models, tasks, injections, alphas, method, decoding, batch_size)
    bootstrap = Bootstrap(settings["resamples"], settings["seed"])
    return translation_table(tasks, answers, injections, alphas, bootstrap, translation.comet)


def _write_nothing(
    arguments: argparse.Namespace,
    files: Mapping[str, Path],
    target: CheckpointManifest,
    reason: str,
) -> None:
    """Write empty tables of a target, as it was left out, or the source."""
    print(f"Left out: {reason}")
    facts = {LEFT_OUT: reason}
    provenance = _provenance(arguments, "injection_perplexity", files, target, facts)
    write_table(arguments.output, PERPLEXITY_SCHEMA.to_frame(), provenance)
    if arguments.translation_output is not None:
        provenance = _provenance(arguments, "injection_translation", files, target, facts)
        write_table(arguments.translation_output, TRANSLATION_SCHEMA.to_frame(), provenance)


def _provenance(
    arguments: argparse.Namespace,
    kind: str,
    files: Mapping[str, Path],
    target: CheckpointManifest,
    facts: Mapping[str, Any],
) -> Provenance:
    return provenance_of(
        arguments,
        kind,
        files,
        **target.origin,
        seed=arguments.settings["seed"],
        dtype=arguments.settings["dtype"],
        device=resolve_device(arguments.device).partition(":")[0],
        facts=facts,
    )


if __name__ == "__main__":
    run_program(main)
