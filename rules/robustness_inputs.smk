"""
Says which artifacts each job of the robustness study reads; nothing is computed here.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""


def post_files(wildcards):
    """Return the files that posts are read from, of those in place; see rules/runs.smk."""
    paths = [study.path(path) for path in study.robustness.posts.text.paths]
    return [path for path in paths if os.path.exists(path)]


def tokenised_posts(wildcards):
    """Return the posts cut with the model's tokenizer."""
    return made("tokenise_posts", tokenizer=study.tokenizer_of(wildcards.model))


def of_each_model(stage, output):
    """Return an output of the classifiers of every model with one seed, the first model's first."""
    return [
        made(stage, output, model=model, checkpoint=checkpoint)
        for model, checkpoint in study.robustness.models.items()
    ]


def layer_folder(files):
    """Return the folder of `layer_{layer}/{sae}/` that files of all layers lie in."""
    return Path(files[0]).parents[2]
