"""
Loads the study and gives rules what they share: settings and sources of code.

REQUIRED INPUTS:
    the study (config.yaml, or what --configfile names), its checkpoint sheet and its lexicon

Nothing is computed here, and nothing heavy is imported.
"""

import atexit
import gc
import inspect
import json
import os
import re
import shlex
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from glossogenesis.exceptions import StudyError
from glossogenesis.study.loading import load_merged
from glossogenesis.study.section import NAME_PATTERN
from glossogenesis.workflow import (
    costs,
    disk,
    jobs_features,
    preflight,
    registry,
    stages,
)
from glossogenesis.workflow import stages_features
from glossogenesis.workflow.code_digests import CodeDigests
from glossogenesis.workflow.registry import FIGURES, STAGES

try:
    study, content = load_merged(
        config, [Path(os.path.relpath(file)) for file in workflow.configfiles]
    )
    config.clear()
    config.update(content)
    results = Path(study.settings.pathvars.get("results", "results"))
    if study.settings.hub.offline:
        # Jobs inherit it, and with it every library that would ask the Hub.
        os.environ.update(HF_HUB_OFFLINE="1")
    if workflow.is_main_process:
        preflight.check(study)
        if missing := preflight.absent(study, results):
            logger.warning(f"Not in place yet: {missing}")
        for line in preflight.suspicious(study, results):
            logger.warning(line)
except StudyError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    model=NAME_PATTERN.strip("^$"),
    checkpoint=NAME_PATTERN.strip("^$"),
    pretraining=NAME_PATTERN.strip("^$"),
    corpus=NAME_PATTERN.strip("^$"),
    tokenizer=NAME_PATTERN.strip("^$"),
    sae=NAME_PATTERN.strip("^$"),
    layer="[0-9]+",
    seed="[0-9]+",


# A plan is millions of objects that live until its end. Looking through them for garbage, as often as
# Python does by default, is a tenth of the time that planning takes, and finds none. Freeing them one by
# one when the process ends is another tenth, and of no use either.
gc.set_threshold(100_000)
atexit.register(gc.freeze)


def lexicon_input(wildcards):
    """Return the lexicon, or nothing where it is not in place yet; see rules/runs.smk."""
    path = study.lexicon_path
    return [path] if path is not None and os.path.exists(path) else []


def resume_dir(wildcards, output):
    """Return where unfinished training keeps its state: outputs are deleted before a rerun."""
    folder = Path(output[0]).parent
    return Path(results) / "resume" / os.path.relpath(folder, results)


def first_checkpoint(wildcards):
    """Return the first checkpoint in the sheet of a model, or of the model whose tokenizer is used.

    Its tokenizer stands for the model's: a row added below changes no prompt and no corpus.
    """
    model = wildcards.get("model") or wildcards.tokenizer
    first = study.checkpoints_of(model)[0].checkpoint
    return made("fetch_checkpoint", model=model, checkpoint=first)
