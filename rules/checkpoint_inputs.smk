"""
Says what pretraining, fetching and removing a checkpoint start from.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""

from glossogenesis.workflow import disk as hub_removal


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
    return [f"<results>/checkpoints/{start.model}/{start.checkpoint}/manifest.json"]


def pretraining_threads(wildcards):
    """Return a pretraining's threads: two, one for each half of a batch, and more in wide models.

    One that waits for nothing comes first, before jobs that would keep it from having so many at once.
    """
    size = study.size_of(wildcards.pretraining)
    most = 2 if size is not None and size.hidden < 512 else 8
    if study.settings.pretrain[wildcards.pretraining].start is None:
        return most
    return min(most, several_threads(wildcards))


def pretraining_device(wildcards):
    """Return where a pretraining runs: on a GPU where it asks a cluster for one."""
    return (
        "auto" if costs.pretraining_cost(study, wildcards.pretraining).gpus else "cpu"
    )


def checkpoint_inputs(wildcards):
    """Return the pretraining that a checkpoint comes from, or nothing."""
    name = study.checkpoint(wildcards.model, wildcards.checkpoint).pretrained_by
    return [f"<results>/pretraining/{name}/manifest.json"] if name else []


def fetching_priority(wildcards):
    """Return the priority of a fetch: below all where downloads are removed once they are used.

    The next is fetched then when nothing can be done with those that are there, but for a model's
    first checkpoint, whose tokenizer prompts and corpora wait for.
    """
    first = study.checkpoints_of(wildcards.model)[0].checkpoint
    if study.settings.hub.keep_downloads or wildcards.checkpoint == first:
        return LONGEST_CHAIN
    return -1


def downloads_to_remove():
    """Return the records of removed downloads, none where downloads are kept."""
    if study.settings.hub.keep_downloads:
        return []
    return [
        f"<results>/checkpoints/{row.model}/{row.checkpoint}/removed.json"
        for row in hub_removal.fetched_rows(study)
    ]


def made_from_weights(wildcards):
    """Return everything that the study makes directly from a checkpoint's weights."""
    row = study.checkpoint(wildcards.model, wildcards.checkpoint)
    return [f"<results>/{path}" for path in hub_removal.made_from_weights(study, row)]
