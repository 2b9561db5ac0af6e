"""
Says which artifacts each job of the robustness study reads; nothing is computed here.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""

CLASSIFIERS = "<results>/classifiers/{model}/{checkpoint}/seed_{seed}"
POST_ACTIVATIONS = "<results>/post_activations/{model}/{checkpoint}/seed_{seed}"
POST_SAES = "<results>/post_saes/{model}/{checkpoint}/seed_{seed}"
POST_FEATURES = "<results>/post_features/{model}/{checkpoint}/seed_{seed}"

LABEL_FILES = ["labels", "features", "cues", "posts"]


def post_files(wildcards):
    """Return the files that posts are read from, of those in place; see rules/runs.smk."""
    paths = [study.path(path) for path in study.robustness.posts.text.paths]
    return [path for path in paths if os.path.exists(path)]


def posts_manifest(wildcards):
    """Return the manifest of the posts cut with the model's tokenizer."""
    return f"<results>/posts/{study.tokenizer_of(wildcards.model)}/manifest.json"


def posts_tokenizer(wildcards):
    """Return the manifest of the checkpoint whose tokenizer posts are cut with."""
    return first_manifest_of(wildcards.tokenizer)


def every_classifier(name):
    """Return one file of the classifiers of every model with one seed, the first model's first."""
    return [
        f"<results>/classifiers/{model}/{checkpoint}/seed_{{seed}}/{name}"
        for model, checkpoint in study.robustness.models.items()
    ]


def classifier_models_by_layers():
    """Return the classified models that have the same layers in the study, by these layers."""
    found = {}
    for model in study.robustness.models:
        found.setdefault(study.layers_of(model), []).append(model)
    return found


def files_at(layers, folder, *names):
    """Return files of one kind of autoencoder at some layers."""
    return [
        f"{folder}/layer_{layer}/{{sae}}/{name}" for layer in layers for name in names
    ]


def files_of_layers(folder, *names):
    """Return an input function: files of one kind of autoencoder at every layer of a model."""
    return lambda wildcards: files_at(study.layers_of(wildcards.model), folder, *names)


def of_each_model(stage, *names):
    """Return files of a stage for every classified model and seed."""
    return [
        f"<results>/{stage}/{run.folder}/{name}"
        for run in study.robustness.runs
        for name in names
    ]


def of_each_sae(stage):
    """Return one table of a stage for every classifier and its autoencoders."""
    return of_each_model(stage, *[f"{sae}.parquet" for sae in study.robustness.trained])


def of_each_layer(stage, *names):
    """Return files of a stage for every classifier, layer and autoencoder."""
    return [
        f"<results>/{stage}/{run.folder}/layer_{layer}/{sae}/{name}"
        for run in study.robustness.runs
        for layer in study.layers_of(run.model)
        for sae in study.robustness.trained
        for name in names
    ]


def posts_of_each_tokenizer():
    """Return the tokenised posts of every classified model."""
    return [
        f"<results>/posts/{tokenizer}/manifest.json"
        for tokenizer in dict.fromkeys(map(study.tokenizer_of, study.robustness.models))
    ]


def layer_folder(files):
    """Return the folder of `layer_{layer}/{sae}/` that files of all layers lie in."""
    return Path(files[0]).parents[2]


def robustness_table(name):
    """Return a table of the robustness study as CSV, which the report shows."""
    return report(
        f"<results>/tables/robustness_{name}.csv",
        caption=f"../resources/captions/robustness_{name}_table.rst",
        category="Robustness",
        labels={"model": "all", "figure": f"table: {name}"},
    )
