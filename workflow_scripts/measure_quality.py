"""Measure autoencoders on held-out activations: sparsity, explained variance, dead latents.

The language model is not needed; what splicing does to it is in `measure_recovery.py`. Several
layers are measured one after the other.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from glossogenesis.models.device import resolve_device
from glossogenesis.progress import progress
from glossogenesis.sae.files import check_origin, read_sae
from glossogenesis.sae.quality import measure_quality
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.files import write_json
from glossogenesis.workflow.left_out import left_out
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the quality of each autoencoder."""
    arguments = program_arguments(
        __doc__,
        activations={"nargs": "+", "help": "manifests of the layers' activations"},
        saes={"nargs": "+", "help": "their sae_weights.safetensors, with cfg.json beside them"},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        output={"nargs": "+", "help": "their quality.json"},
    )
    layers = zip(arguments.activations, arguments.saes, arguments.output, strict=True)
    for activations, weights, output in layers:
        measure(arguments, activations, weights, output)


def measure(arguments: argparse.Namespace, activations: Path, weights: Path, output: Path) -> None:
    """Write the quality of the autoencoder of one layer."""
    inputs = {"activations": activations, "sae": weights}
    if empty := left_out(arguments, "quality", inputs):
        write_json(output, {"provenance": asdict(empty)})
        return
    cache = ActivationCache.open(activations)
    check_origin(weights, cache.model, cache.checkpoint, cache.layer)
    sae = read_sae(weights, d_model=cache.d_model).to(resolve_device(arguments.device))
    rows = cache.rows_in("held_out")
    with progress(total=rows, label=f"measuring layer {cache.layer}", unit="token") as bar:
        quality = measure_quality(sae, cache.shards("held_out"), cache.languages, bar.update)
    provenance = provenance_of(
        arguments,
        "quality",
        inputs,
        **cache.origin,
        dtype=cache.dtype,
        device=sae.w_enc.device.type,
        facts={"corpus": cache.corpus, "split": "held_out"},
    )
    write_json(output, quality.to_json() | {"provenance": asdict(provenance)})


if __name__ == "__main__":
    run_program(main)
