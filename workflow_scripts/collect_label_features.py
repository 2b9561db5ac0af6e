"""Tell how the features of a classifier's autoencoder relate to labels, on held-out posts.

How strongly each feature distinguishes each label, how label-specific features are, which tokens
and pieces of text the top features of a label fire on, and how sparse and faithful the code is.
"""

from glossogenesis.config.robustness import LabelFeatureSettings
from glossogenesis.corpora.posts import read_posts
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.features.label_tables import collect_label_features
from glossogenesis.models.device import resolve_device
from glossogenesis.program import program_arguments, provenance_of, run_program
from glossogenesis.sae.files import check_origin, read_sae
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.storage.tables import write_table


def main() -> None:
    """Write the four tables of one autoencoder."""
    arguments = program_arguments(
        __doc__,
        activations={"help": "manifest of the layer's activations"},
        sae={"help": "sae_weights.safetensors, with cfg.json beside it"},
        corpus={"help": "manifest of the tokenised posts"},
        posts={"help": "posts.parquet"},
        device={"type": str},
        output={"help": "labels.parquet; features, cues and posts are written beside it"},
    )
    settings = arguments.settings
    cache = ActivationCache.open(arguments.activations)
    check_origin(arguments.sae, cache.model, cache.checkpoint, cache.layer)
    device = resolve_device(arguments.device)
    found = collect_label_features(
        read_sae(arguments.sae, d_model=cache.d_model).to(device),
        cache,
        TokenisedCorpus.read(arguments.corpus),
        read_posts(arguments.posts),
        LabelFeatureSettings.model_validate(settings["label_features"]),
        settings["seed"],
    )
    provenance = provenance_of(
        arguments,
        "label_features",
        {name: getattr(arguments, name) for name in ("activations", "sae", "corpus", "posts")},
        model=cache.model,
        checkpoint=cache.checkpoint,
        revision=cache.revision,
        layer=cache.layer,
        seed=settings["seed"],
        dtype=cache.dtype,
        device=device,
        facts=found.facts,
    )
    folder = arguments.output.parent
    write_table(folder / "features.parquet", found.features, provenance)
    write_table(folder / "cues.parquet", found.cues, provenance)
    write_table(folder / "posts.parquet", found.posts, provenance)
    write_table(arguments.output, found.labels, provenance)


if __name__ == "__main__":
    run_program(main)
