"""
Says which tables and figures each part of the study ends in.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""


def in_study(name):
    """Tell whether a study has any job of a stage."""
    return any(True for _ in STAGES[name].jobs_in(study))


def targets_of(part):
    """Return the tables and figures of a part of the study, none where it is not enabled."""
    return [f"<results>/{path}" for path in registry.targets_of(study, part)]


def downloads_to_remove():
    """Return the records of removed downloads, none where downloads are kept."""
    return [
        f"<results>/{STAGES['remove_download'].path().format_map(setup)}"
        for setup in STAGES["remove_download"].jobs_in(study)
        if weights_used()[setup["model"], setup["checkpoint"]]
    ]
