"""Write the activation caches of a checkpoint: every configured layer from one pass of the model.

Shards come first and the manifests last; what an interrupted run has finished is not redone.
"""

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import NotFiniteError
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.residual_caches import (
    CachedModel,
    CacheRules,
    caches_in_words,
    of_each_layer,
    write_caches,
    write_empty_caches,
)
from glossogenesis.storage.provenance import diverged
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program

SPLITS_OF_MODES = {"cache": ("held_out", "train"), "stream": ("held_out",)}


def main() -> None:
    """Write the caches of one checkpoint."""
    arguments = program_arguments(
        __doc__,
        checkpoint={"help": "manifest of the checkpoint"},
        corpus={"help": "manifest of the tokenised corpus"},
        batch_size={"type": int},
        device={"type": str},
        output={"help": "folder that gets layer_{layer}/manifest.json"},
    )
    settings = arguments.settings
    activations = settings["activations"]
    manifest = CheckpointManifest.read(arguments.checkpoint)
    corpus = TokenisedCorpus.read(arguments.corpus)
    manifest.check_tokenizer(corpus.tokenizer_digest, arguments.corpus)
    anatomy = load_model(
        manifest.location, dtype=settings["dtype"], device=arguments.device
    ).anatomy
    provenance = provenance_of(
        arguments,
        "activations",
        {"checkpoint": arguments.checkpoint, "corpus": arguments.corpus},
        **manifest.origin,
        seed=settings["seed"],
        dtype=settings["dtype"],
        device=anatomy.device.type,
    )
    # Which other layers are extracted is left out, so that adding one changes no other's cache.
    of_a_layer = {key: value for key, value in settings.items() if key != "layers"}
    provenances = of_each_layer(provenance, settings["layers"], of_a_layer)
    rules = CacheRules(
        SPLITS_OF_MODES[activations["mode"]],
        window=activations["window"],
        seed=settings["seed"],
        dtype=activations["dtype"],
        not_finite=activations["not_finite"],
    )
    cached = CachedModel(manifest, anatomy, corpus, f"{manifest.model} {manifest.checkpoint}")
    try:
        caches = write_caches(
            arguments.output, cached, rules, provenances, batch_size=arguments.batch_size
        )
        print(caches_in_words(caches))
    except NotFiniteError as error:
        provenance = diverged(error, settings["on_diverged"], provenance)
        provenances = of_each_layer(provenance, settings["layers"], of_a_layer)
        write_empty_caches(arguments.output, cached, rules, provenances)


if __name__ == "__main__":
    run_program(main)
