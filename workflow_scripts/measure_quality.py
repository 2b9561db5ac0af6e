"""Measure an autoencoder on held-out activations: sparsity, explained variance, dead latents.

The language model is not needed; what splicing does to it is in `measure_recovery.py`.
"""

from dataclasses import asdict

import torch

from glossogenesis.models.device import resolve_device
from glossogenesis.program import program_arguments, provenance_of, run_program
from glossogenesis.progress import progress
from glossogenesis.sae.files import check_origin, read_sae
from glossogenesis.sae.quality import measure_quality
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.atomic import write_json


def main() -> None:
    """Write the quality of one autoencoder."""
    arguments = program_arguments(
        __doc__,
        activations={"help": "manifest of the layer's activations"},
        sae={"help": "sae_weights.safetensors, with cfg.json beside it"},
        threads={"type": int, "default": 1},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        output={"help": "quality.json"},
    )
    torch.set_num_threads(arguments.threads)
    cache = ActivationCache.open(arguments.activations)
    check_origin(arguments.sae, cache.model, cache.checkpoint, cache.layer)
    sae = read_sae(arguments.sae, d_model=cache.d_model).to(resolve_device(arguments.device))
    shards = progress(
        cache.shards("held_out"),
        total=len(cache.rows_of_shards("held_out")),
        label="measuring",
        unit="shard",
    )
    quality = measure_quality(sae, shards, cache.languages)
    provenance = provenance_of(
        arguments,
        "quality",
        {"activations": arguments.activations, "sae": arguments.sae},
        model=cache.model,
        checkpoint=cache.checkpoint,
        revision=cache.revision,
        layer=cache.layer,
        dtype=cache.dtype,
        device=sae.w_enc.device.type,
        facts={"corpus": cache.corpus, "split": "held_out"},
    )
    write_json(arguments.output, quality.to_json() | {"provenance": asdict(provenance)})


if __name__ == "__main__":
    run_program(main)
