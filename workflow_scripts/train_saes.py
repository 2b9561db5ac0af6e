"""Train the sparse autoencoders of several layers of one checkpoint while its model runs.

For studies whose activations do not fit a disk: one pass of the language model feeds all layers and
all learning rates. For each layer the files are those of `train_sae`. An interrupted run goes on
where it last kept its state under `--resume-dir`.
"""

from glossogenesis.config.sae import SaeTraining
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.errors import StudyError
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.program import program_arguments, provenance_of, run_program
from glossogenesis.sae.streaming import StreamedTraining, train_from_model
from glossogenesis.storage.activations.cache import MANIFEST, ActivationCache


def main() -> None:
    """Write the weights, configurations and training tables of a block of layers."""
    arguments = program_arguments(
        __doc__,
        checkpoint={"help": "manifest of the checkpoint"},
        corpus={"help": "manifest of the tokenised corpus"},
        activations={"help": "folder of layer_{layer}/manifest.json, with held-out activations"},
        warm_start={"nargs": "?", "default": None, "help": "the neighbouring checkpoint's folder"},
        resume_dir={"help": "folder for the state of an unfinished run, of this job alone"},
        seconds_between_states={"type": float, "default": 60.0},
        batch_size={"type": int, "help": "contexts in a forward pass"},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        sae={"type": str, "help": "name of the autoencoder in the study"},
        output={"help": "folder that gets layer_{layer}/{sae}/ with all files"},
    )
    settings = arguments.settings
    manifest = CheckpointManifest.read(arguments.checkpoint)
    corpus = TokenisedCorpus.read(arguments.corpus)
    manifests = {
        layer: arguments.activations / f"layer_{layer}" / MANIFEST for layer in settings["layers"]
    }
    caches = {layer: ActivationCache.open(path) for layer, path in manifests.items()}
    for layer, cache in caches.items():
        if (cache.model, cache.checkpoint) != (manifest.model, manifest.checkpoint):
            raise StudyError(
                f"{manifests[layer]}: activations of {cache.model} {cache.checkpoint}, not of "
                f"{manifest.model} {manifest.checkpoint}; give the folder of this checkpoint"
            )
    loaded = load_model(manifest.location, dtype=settings["dtype"], device=arguments.device)
    job = StreamedTraining(
        settings=SaeTraining.model_validate(settings["sae"]),
        seed=settings["seed"],
        caches=caches,
        not_finite=settings["activations"]["not_finite"],
        batch_size=arguments.batch_size,
        warm_start=arguments.warm_start,
        folder=arguments.output,
        name=arguments.sae,
        resume_folder=arguments.resume_dir,
    )
    inputs = {"checkpoint": arguments.checkpoint, "corpus": arguments.corpus}
    inputs |= {f"layer_{layer}": path for layer, path in manifests.items()}
    for layer in caches:
        if (weights := job.warm_start_of(layer)) is not None:
            inputs[f"warm_start_{layer}"] = weights
    provenance = provenance_of(
        arguments,
        "sae",
        inputs,
        model=manifest.model,
        checkpoint=manifest.checkpoint,
        revision=manifest.commit,
        seed=settings["seed"],
        dtype="float32",
        device=loaded.anatomy.device.type,
    )
    train_from_model(
        job,
        loaded.anatomy,
        corpus,
        provenance,
        seconds_between_states=arguments.seconds_between_states,
    )


if __name__ == "__main__":
    run_program(main)
