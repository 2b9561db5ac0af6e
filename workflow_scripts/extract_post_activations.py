"""Write the activation caches of a classifier over posts: every layer from one pass of the model.

Shards come first and the manifests last; what an interrupted run has finished is not redone.
"""

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.residual_caches import (
    CachedModel,
    CacheRules,
    caches_in_words,
    of_each_layer,
    write_caches,
)
from glossogenesis.study.robustness import PostActivationSettings
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program

SPLITS = ("held_out", "train")


def main() -> None:
    """Write the caches of one classifier."""
    arguments = program_arguments(
        __doc__,
        classifier={"help": "manifest of the classifier"},
        corpus={"help": "manifest of the tokenised posts"},
        batch_size={"type": int},
        device={"type": str},
        output={"help": "folder that gets layer_{layer}/manifest.json"},
    )
    settings = arguments.settings
    activations = PostActivationSettings.model_validate(settings["activations"])
    manifest = CheckpointManifest.read(arguments.classifier)
    corpus = TokenisedCorpus.read(arguments.corpus)
    manifest.check_tokenizer(corpus.tokenizer_digest, arguments.corpus)
    anatomy = load_model(
        manifest.location, dtype=settings["dtype"], device=arguments.device, head="classifier"
    ).anatomy
    provenance = provenance_of(
        arguments,
        "activations",
        {"classifier": arguments.classifier, "corpus": arguments.corpus},
        **manifest.origin,
        seed=settings["seed"],
        dtype=settings["dtype"],
        device=anatomy.device.type,
    )
    # Which other layers are extracted is left out, so that adding one changes no other's cache.
    of_a_layer = {key: value for key, value in settings.items() if key != "layers"}
    provenances = of_each_layer(provenance, settings["layers"], of_a_layer)
    rules = CacheRules(
        SPLITS,
        window=activations.window,
        seed=settings["seed"],
        dtype=activations.dtype,
        not_finite=activations.not_finite,
        positions=activations.positions,
        section="robustness",
    )
    cached = CachedModel(
        manifest, anatomy, corpus, f"classifier {manifest.model} {manifest.checkpoint}"
    )
    caches = write_caches(
        arguments.output, cached, rules, provenances, batch_size=arguments.batch_size
    )
    print(caches_in_words(caches))


if __name__ == "__main__":
    run_program(main)
