"""Train the sparse autoencoders of several layers of one checkpoint from cached activations.

All learning rates train in one pass over a layer's activations, and the one with the lowest
held-out loss is written. Beside the weights there are `cfg.json` and `training.parquet`, a table of
loss, L0 and dead latents by step. An interrupted run goes on where it last kept its state under
`--resume-dir`, and trains no layer again that it had finished.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from glossogenesis.models.device import resolve_device
from glossogenesis.sae.jobs import CachedTraining, train_block, write_nothing
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.study.features import SaeTraining
from glossogenesis.workflow.left_out import left_out
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the weights, configuration and training table of each layer's autoencoder."""
    arguments = program_arguments(
        __doc__,
        activations={"nargs": "+", "help": "manifests of the layers' activations"},
        warm_start={"nargs": "*", "default": [], "help": "weights of the neighbouring checkpoint"},
        resume_dir={"help": "folder for the state of an unfinished run, of this job alone"},
        seconds_between_states={"type": float, "default": 60.0},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        output={"nargs": "+", "help": "their sae_weights.safetensors"},
    )
    device = resolve_device(arguments.device)
    warm_starts = arguments.warm_start or [None] * len(arguments.output)
    jobs = []
    for files in zip(arguments.activations, warm_starts, arguments.output, strict=True):
        activations, _, output = files
        if empty := left_out(arguments, "sae", {"activations": activations}):
            write_nothing(output.parent, empty)
        else:
            jobs.append(training_of(arguments, *files, device=device))
    if jobs:
        train_block(
            jobs,
            arguments.resume_dir,
            device=device,
            seconds_between_states=arguments.seconds_between_states,
        )


def training_of(
    arguments: argparse.Namespace,
    activations: Path,
    warm_start: Path | None,
    output: Path,
    *,
    device: str,
) -> CachedTraining:
    """Return the training of one layer."""
    cache = ActivationCache.open(activations)
    inputs = {"activations": activations}
    if warm_start is not None:
        inputs["warm_start"] = warm_start
    return CachedTraining(
        settings=SaeTraining.model_validate(arguments.settings["sae"]),
        seed=arguments.settings["seed"],
        cache=cache,
        warm_start=warm_start,
        folder=output.parent,
        resume_folder=arguments.resume_dir / f"layer_{cache.layer}",
        on_diverged=arguments.settings["on_diverged"],
        provenance=provenance_of(
            arguments,
            "sae",
            inputs,
            **cache.origin,
            seed=arguments.settings["seed"],
            dtype="float32",
            device=device.partition(":")[0],
        ),
    )


if __name__ == "__main__":
    run_program(main)
