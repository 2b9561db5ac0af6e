"""Train the sparse autoencoder of one layer of one checkpoint from cached activations.

All learning rates train in one pass over the activations, and the one with the lowest held-out loss
is written. `cfg.json` is written beside the weights. An interrupted run goes on where it last kept
its state under `--resume-dir`.
"""

from glossogenesis.config.sae import SaeTraining
from glossogenesis.models.device import resolve_device
from glossogenesis.program import program_arguments, provenance_of, run_program
from glossogenesis.sae.cached_training import CachedTraining, train_from_cache
from glossogenesis.storage.activations.cache import ActivationCache


def main() -> None:
    """Write the weights, configuration and training table of one autoencoder."""
    arguments = program_arguments(
        __doc__,
        activations={"help": "manifest of the layer's activations"},
        warm_start={
            "nargs": "?",
            "default": None,
            "help": "weights of the neighbouring checkpoint",
        },
        resume_dir={"help": "folder for the state of an unfinished run, of this job alone"},
        seconds_between_states={"type": float, "default": 60.0},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        output={"help": "sae_weights.safetensors; cfg.json is written beside it"},
        training={"help": "table of loss, L0 and dead latents by step"},
    )
    cache = ActivationCache.open(arguments.activations)
    device = resolve_device(arguments.device)
    inputs = {"activations": arguments.activations}
    if arguments.warm_start is not None:
        inputs["warm_start"] = arguments.warm_start
    provenance = provenance_of(
        arguments,
        "sae",
        inputs,
        model=cache.model,
        checkpoint=cache.checkpoint,
        revision=cache.revision,
        layer=cache.layer,
        seed=arguments.settings["seed"],
        dtype="float32",
        device=device,
    )
    train_from_cache(
        CachedTraining(
            settings=SaeTraining.model_validate(arguments.settings["sae"]),
            seed=arguments.settings["seed"],
            cache=cache,
            warm_start=arguments.warm_start,
            folder=arguments.output.parent,
            training=arguments.training,
            resume_folder=arguments.resume_dir,
        ),
        provenance,
        device=device,
        seconds_between_states=arguments.seconds_between_states,
    )


if __name__ == "__main__":
    run_program(main)
