"""Measure how much of a model's cross-entropy autoencoders recover when spliced into it.

Every layer and language from one load of the model, beside zero and mean ablation of the layer.
"""

from dataclasses import replace

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import NotFiniteError
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.progress import progress
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.files import (
    check_origin,
    origin_of_sae,
    read_config,
    read_sae,
    weights_of_layers,
)
from glossogenesis.sae.recovery import (
    held_out_contexts,
    layers_in_memory,
    measure_recovery,
    passes_of,
)
from glossogenesis.sae.tables import RECOVERY_SCHEMA, Resampling, recovery_table
from glossogenesis.storage.provenance import diverged, reason_left_out
from glossogenesis.storage.tables import write_table
from glossogenesis.workflow.left_out import left_out
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the cross-entropies of one checkpoint with one kind of autoencoder."""
    arguments = program_arguments(
        __doc__,
        checkpoint={"help": "manifest of the checkpoint"},
        corpus={"help": "manifest of the tokenised corpus"},
        saes={"help": "folder that holds layer_{layer}/{sae}/"},
        batch_size={"type": int, "help": "contexts in one forward pass"},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        output={"help": "table, Parquet"},
    )
    settings = arguments.settings
    weights = weights_of_layers(arguments.saes, settings["layers"], settings["sae"])
    manifest = CheckpointManifest.read(arguments.checkpoint)
    corpus = TokenisedCorpus.read(arguments.corpus)
    manifest.check_tokenizer(corpus.tokenizer_digest, arguments.corpus)
    for layer, path in weights.items():
        check_origin(path, manifest.model, manifest.checkpoint, layer)
    inputs = {f"layer_{layer}": path for layer, path in weights.items()}
    layers = [layer for layer, path in weights.items() if not reason_left_out(origin_of_sae(path))]
    if not layers and (empty := left_out(arguments, "recovery", inputs)):
        write_table(arguments.output, RECOVERY_SCHEMA.to_frame(), replace(empty, layer=None))
        return
    loaded = load_model(manifest.location, dtype=settings["dtype"], device=arguments.device)
    anatomy = loaded.anatomy

    def autoencoder_of(layer: int) -> SparseAutoencoder:
        return read_sae(weights[layer], d_model=anatomy.d_model)

    latents = max(int(read_config(weights[layer])["d_sae"]) for layer in layers)
    at_once = layers_in_memory(latents, anatomy.d_model)
    block = held_out_contexts(corpus, settings["contexts"])
    total = len(block.kept) * passes_of(len(layers), at_once)
    with progress(total=total, label="splicing", unit="context") as bar:
        measured = measure_recovery(
            anatomy,
            block,
            layers,
            autoencoder_of,
            batch_size=arguments.batch_size,
            layers_at_once=at_once,
            on_batch=bar.update,
        )
    provenance = provenance_of(
        arguments,
        "recovery",
        {"checkpoint": arguments.checkpoint, "corpus": arguments.corpus} | inputs,
        **manifest.origin,
        seed=settings["seed"],
        dtype=settings["dtype"],
        device=anatomy.device.type,
        facts={"sae": settings["sae"], "replaced": "kept tokens"},
    )
    if bool(measured.clean.isfinite().all()):
        table = recovery_table(
            measured,
            corpus.languages,
            settings["ablation"],
            Resampling(settings["resamples"], settings["seed"]),
        )
    else:
        where = f"{manifest.model} {manifest.checkpoint}"
        error = NotFiniteError.of_model(where, "cross-entropies", settings["dtype"])
        provenance = diverged(error, settings["on_diverged"], provenance)
        table = RECOVERY_SCHEMA.to_frame()
    write_table(arguments.output, table, provenance)


if __name__ == "__main__":
    run_program(main)
