"""Train the sparse autoencoders of several layers of one checkpoint while its model runs.

For studies whose activations do not fit a disk: one pass of the language model feeds all layers and
all learning rates. For each layer the files are those of `train_saes`. An interrupted run goes on
where it last kept its state under `--resume-dir`.
"""

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.sae.jobs import StreamedTraining, train_from_model, write_nothing
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.study.features import SaeTraining
from glossogenesis.workflow.left_out import left_out
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the weights, configurations and training tables of a block of layers."""
    arguments = program_arguments(
        __doc__,
        checkpoint={"help": "manifest of the checkpoint"},
        corpus={"help": "manifest of the tokenised corpus"},
        activations={"nargs": "+", "help": "manifests of the layers' held-out activations"},
        warm_start={"nargs": "*", "default": [], "help": "weights of the neighbouring checkpoint"},
        resume_dir={"help": "folder for the state of an unfinished run, of this job alone"},
        seconds_between_states={"type": float, "default": 60.0},
        batch_size={"type": int, "help": "contexts in a forward pass"},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        output={"nargs": "+", "help": "their sae_weights.safetensors"},
    )
    settings = arguments.settings
    manifest = CheckpointManifest.read(arguments.checkpoint)
    corpus = TokenisedCorpus.read(arguments.corpus)
    opened = [ActivationCache.open(path) for path in arguments.activations]
    layers = [cache.layer for cache in opened]
    manifests = dict(zip(layers, arguments.activations, strict=True))
    warm_starts = dict(zip(layers, arguments.warm_start, strict=False))
    for cache in opened:
        if (cache.model, cache.checkpoint) != (manifest.model, manifest.checkpoint):
            raise StudyError(
                f"{manifests[cache.layer]}: activations of {cache.model} {cache.checkpoint}, not "
                f"of {manifest.model} {manifest.checkpoint}; give those of this checkpoint"
            )
    for path, output in zip(arguments.activations, arguments.output, strict=True):
        if empty := left_out(arguments, "sae", {"activations": path}):
            write_nothing(output.parent, empty)
    if empty:
        # The layers of a checkpoint have the same tokens, and so are left out together.
        return
    loaded = load_model(manifest.location, dtype=settings["dtype"], device=arguments.device)
    job = StreamedTraining(
        settings=SaeTraining.model_validate(settings["sae"]),
        seed=settings["seed"],
        caches=dict(zip(layers, opened, strict=True)),
        not_finite=settings["activations"]["not_finite"],
        batch_size=arguments.batch_size,
        warm_starts=warm_starts,
        folders={layer: path.parent for layer, path in zip(layers, arguments.output, strict=True)},
        resume_folder=arguments.resume_dir,
        on_diverged=settings["on_diverged"],
    )
    inputs = {"checkpoint": arguments.checkpoint, "corpus": arguments.corpus}
    inputs |= {f"layer_{layer}": path for layer, path in manifests.items()}
    inputs |= {f"warm_start_{layer}": path for layer, path in warm_starts.items()}
    provenance = provenance_of(
        arguments,
        "sae",
        inputs,
        **manifest.origin,
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
