"""
Says which artifacts each job of the features study reads; nothing is computed here.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""


def models_by_layers():
    """Return the models that have the same layers in the study, by these layers."""
    found = {}
    for model in study.models_of("features"):
        found.setdefault(study.layers_of(model), []).append(model)
    return found


def models_by_block():
    """Return the models that a job does a block of layers of, by that block."""
    found = {}
    for model in study.models_of("features"):
        layers = study.layers_of(model)
        size = study.settings.models[model].layers_per_job or len(layers)
        for start in range(0, len(layers), size):
            found.setdefault(layers[start : start + size], []).append(model)
    return found


def block_cost(cost_of_layers, block):
    """Return the cost function of a job that does a block of layers."""
    return lambda study, model, sae: cost_of_layers(study, model, sae, len(block))


def corpus_text(wildcards):
    """Return the user's own files of a corpus, none where it has none."""
    text = study.settings.corpora[wildcards.corpus].text
    by_language = text.files.values() if text.kind == "files" else ()
    return [study.path(path) for paths in by_language for path in paths]


def corpus_lexicon(wildcards):
    """Return the lexicon where a corpus is generated from it, or nothing."""
    kind = study.settings.corpora[wildcards.corpus].text.kind
    return lexicon_input(wildcards) if kind == "demo" else []


def tokenizer_manifest(wildcards):
    """Return the manifest of the checkpoint whose tokenizer a corpus is cut with."""
    return first_manifest_of(wildcards.tokenizer)


def corpus_manifest(wildcards):
    """Return the manifest of a corpus with the tokenizer of the model."""
    tokenizer = study.tokenizer_of(wildcards.model)
    return f"<results>/corpora/{wildcards.corpus}/{tokenizer}/manifest.json"


@told_signature
def study_corpus_manifest(wildcards):
    """Return the manifest of the features study's corpus with the tokenizer of the model."""
    tokenizer = study.tokenizer_of(wildcards.model)
    return f"<results>/corpora/{study.features.corpus}/{tokenizer}/manifest.json"


def last_checkpoint_manifest(wildcards):
    """Return the manifest of the model's last checkpoint in the features study."""
    last = study.feature_checkpoints(wildcards.model)[-1]
    return f"<results>/checkpoints/{wildcards.model}/{last}/manifest.json"


def activations_of(layers):
    """Return the manifests of the activation caches of some layers."""
    return expand(
        "<results>/activations/{{model}}/{{checkpoint}}/{corpus}/layer_{layer}/manifest.json",
        corpus=study.features.corpus,
        layer=layers,
    )


@cache
def earlier_checkpoints(model):
    """Return each checkpoint's predecessor in the features study, None for the first."""
    names = study.feature_checkpoints(model)
    return dict(zip(names, (None, *names)))


def earlier_checkpoint(wildcards):
    """Return the checkpoint before this one in the features study, None for the first."""
    return earlier_checkpoints(wildcards.model)[wildcards.checkpoint]


def sae_file(wildcards, checkpoint, layer, stage, name):
    """Return a file of one autoencoder of the model and kind that the wildcards name."""
    return f"<results>/{stage}/{wildcards.model}/{checkpoint}/layer_{layer}/{wildcards.sae}/{name}"


def files_of(layers, stage, name):
    """Return a file for each of some layers: that of the autoencoder of one kind."""
    return expand(
        f"<results>/{stage}/{{{{model}}}}/{{{{checkpoint}}}}/layer_{{layer}}/{{{{sae}}}}/{name}",
        layer=layers,
    )


def earlier_files_of(layers, stage, name):
    """Return an input function: the same files of the checkpoint before this one."""

    @told_signature
    def files(wildcards):
        earlier = earlier_checkpoint(wildcards)
        return [sae_file(wildcards, earlier, layer, stage, name) for layer in layers]

    return files


def weights_of_all_layers(wildcards):
    """Return the autoencoders of one kind, of all layers."""
    layers = study.layers_of(wildcards.model)
    return files_of(layers, "sae", "sae_weights.safetensors")


def earlier_saes(block):
    """Return an input function: what warm starts of a block begin with, or nothing."""
    earlier_weights = earlier_files_of(block, "sae", "sae_weights.safetensors")

    def saes(wildcards):
        name, _ = study.features.trained[wildcards.sae]
        is_first = earlier_checkpoint(wildcards) is None
        if not study.features.saes[name].warm_start or is_first:
            return []
        return earlier_weights(wildcards)

    return saes


def weights_of_all_seeds(layers):
    """Return an input function: autoencoders of one kind, layer by layer with all its seeds."""

    def saes(wildcards):
        folder = f"<results>/sae/{wildcards.model}/{wildcards.checkpoint}"
        return [
            f"{folder}/layer_{layer}/{name}/sae_weights.safetensors"
            for layer in layers
            for name, (of, _) in study.features.trained.items()
            if of == wildcards.sae
        ]

    return saes


@told_signature
def own_vectors(wildcards):
    """Return the user's own file of token vectors, or nothing."""
    path = stages_features.embedding_file(study)
    return [path] if path else []
