"""
Says what pretraining, fetching and removing a checkpoint start from.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""


def pretraining_lexicon(wildcards):
    """Return the lexicon where a pretraining's text is made from it, or nothing."""
    kind = study.settings.pretrain[wildcards.pretraining].text.kind
    return lexicon_input(wildcards) if kind == "demo" else []


def pretraining_text(wildcards):
    """Return the text files that a pretraining reads, if any."""
    written = study.settings.pretrain[wildcards.pretraining].text.paths
    return [study.path(path) for path in written]


def pretraining_start(wildcards):
    """Return the manifest of the checkpoint that a pretraining continues, if any."""
    start = study.settings.pretrain[wildcards.pretraining].start
    if start is None:
        return []
    return [made("fetch_checkpoint", model=start.model, checkpoint=start.checkpoint)]


def pretraining_gpus(wildcards):
    """Return how many GPUs a pretraining asks for."""
    return costs.pretraining_cost(study, wildcards.pretraining).gpus


def pretraining_device(wildcards):
    """Return where a pretraining runs: on a GPU where it asks a cluster for one."""
    return "auto" if pretraining_gpus(wildcards) else "cpu"


def checkpoint_inputs(wildcards):
    """Return the pretraining that a checkpoint comes from, or nothing."""
    name = study.checkpoint(wildcards.model, wildcards.checkpoint).pretrained_by
    return [made("pretrain_model", pretraining=name)] if name else []


def fetching_priority(wildcards):
    """Return the priority of a fetch: below all where downloads are removed once they are used.

    The next is fetched then when nothing can be done with those that are there, but for a model's
    first checkpoint, whose tokenizer prompts and corpora wait for.
    """
    first = study.checkpoints_of(wildcards.model)[0].checkpoint
    if study.settings.hub.keep_downloads or wildcards.checkpoint == first:
        return LONGEST_CHAIN
    return -1


@cache
def weights_used():
    """Return everything that the study makes directly from the weights of each checkpoint."""
    return disk.made_from_weights(study)


def made_from_weights(wildcards):
    """Return everything that the study makes directly from a checkpoint's weights."""
    paths = weights_used()[wildcards.model, wildcards.checkpoint]
    return [f"<results>/{path}" for path in paths]
