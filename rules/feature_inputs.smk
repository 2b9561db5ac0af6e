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
        size = study.features.activations.layers_per_job or len(layers)
        for start in range(0, len(layers), size):
            found.setdefault(layers[start : start + size], []).append(model)
    return found


def block_cost(cost_of_layers, block):
    """Return the cost function of a job that does a block of layers."""
    return lambda study, model, sae: cost_of_layers(study, model, sae, len(block))


def block_settings(block):
    """Return the function that slices the study for training a block of layers."""
    return lambda study, model, sae: feature_settings.streaming_settings(
        study, model, sae, block
    )


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


def activations_folder(wildcards):
    """Return the folder of a checkpoint's activation caches."""
    corpus = study.features.corpus
    return f"<results>/activations/{wildcards.model}/{wildcards.checkpoint}/{corpus}"


@told_signature
def layer_activations(wildcards):
    """Return the manifest of a layer's activation cache."""
    return f"{activations_folder(wildcards)}/layer_{wildcards.layer}/manifest.json"


def block_activations(block):
    """Return an input function: the manifests of a block of layers."""
    return lambda wildcards: [
        f"{activations_folder(wildcards)}/layer_{layer}/manifest.json"
        for layer in block
    ]


@cache
def earlier_checkpoints(model):
    """Return each checkpoint's predecessor in the features study, None for the first."""
    names = study.feature_checkpoints(model)
    return dict(zip(names, (None, *names)))


def earlier_checkpoint(wildcards):
    """Return the checkpoint before this one in the features study, None for the first."""
    return earlier_checkpoints(wildcards.model)[wildcards.checkpoint]


def sae_file(wildcards, checkpoint, layer, name, stage="sae"):
    """Return a file of one autoencoder of the model and kind that the wildcards name."""
    return f"<results>/{stage}/{wildcards.model}/{checkpoint}/layer_{layer}/{wildcards.sae}/{name}"


def same_checkpoint(wildcards):
    """Return the checkpoint that the wildcards name."""
    return wildcards.checkpoint


def files_of(layers, name, stage="sae", checkpoint_of=same_checkpoint):
    """Return an input function: a file of the autoencoders of one kind, of some layers."""

    @told_signature
    def files(wildcards):
        chosen = checkpoint_of(wildcards)
        return [sae_file(wildcards, chosen, layer, name, stage) for layer in layers]

    return files


def earlier_files_of(layers, name, stage="sae"):
    """Return an input function: the same files of the checkpoint before this one."""
    return files_of(layers, name, stage, earlier_checkpoint)


def outputs_of(layers, stage, name):
    """Return an output for each of some layers: a file of the autoencoders of one kind."""
    return expand(
        f"<results>/{stage}/{{{{model}}}}/{{{{checkpoint}}}}/layer_{{layer}}/{{{{sae}}}}/{name}",
        layer=layers,
    )


def weights_of_all_layers(wildcards):
    """Return the autoencoders of one kind, of all layers."""
    layers = study.layers_of(wildcards.model)
    return files_of(layers, "sae_weights.safetensors")(wildcards)


def earlier_saes(block):
    """Return an input function: what warm starts of a block begin with, or nothing."""
    earlier_weights = earlier_files_of(block, "sae_weights.safetensors")

    def saes(wildcards):
        name, _ = study.features.trained[wildcards.sae]
        is_first = earlier_checkpoint(wildcards) is None
        if not study.features.saes[name].warm_start or is_first:
            return []
        return earlier_weights(wildcards)

    return saes


def earlier_sae(wildcards):
    """Return the autoencoder that a warm start begins with, or nothing."""
    return earlier_saes([wildcards.layer])(wildcards)


def earlier_checkpoint_folder(wildcards, input):
    """Return the folder of the earlier checkpoint's autoencoders, or nothing."""
    return [Path(path).parents[2] for path in input.warm_start[:1]]


def weights_of_all_seeds(wildcards):
    """Return the autoencoders of one kind with all its seeds, the first one first."""
    folder = f"<results>/sae/{wildcards.model}/{wildcards.checkpoint}/layer_{wildcards.layer}"
    return [
        f"{folder}/{name}/sae_weights.safetensors"
        for name, (of, _) in study.features.trained.items()
        if of == wildcards.sae
    ]


@told_signature
def own_vectors(wildcards):
    """Return the user's own file of token vectors, or nothing."""
    path = feature_settings.embedding_file(study)
    return [path] if path else []
