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

from glossogenesis.workflow.code_digests import CodeDigests
from glossogenesis.workflow import preflight
from glossogenesis.workflow import costs, preflight, stages_features, stages_robustness
from glossogenesis.workflow import stages_features, stages_robustness
from glossogenesis.workflow import stages_concepts
from glossogenesis.study.section import NAME_PATTERN
from glossogenesis.study.loading import load_merged
from glossogenesis.errors import StudyError

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


def program(name):
    """Return the path of a rule's script for a shell, relative to the working directory."""
    path = os.path.relpath(Path(workflow.basedir) / "workflow_scripts" / f"{name}.py")
    return shlex.quote(path)


code_digests = CodeDigests()


def code_of(script):
    """Return the digest of a rule's code, as a param.

    A job needs that of its own rule alone, and reads no other rule's code.
    """
    if workflow.is_main_process:
        return code_digests.of(script)
    return lambda wildcards: code_digests.of(script)


def as_text(settings):
    """Return a stage's settings as JSON with sorted keys, so that equal settings are equal text."""
    return json.dumps(settings, ensure_ascii=False, sort_keys=True)


def told_signature(function):
    """Return the function with its signature beside it.

    Snakemake asks for the signature whenever it calls a function, and Python works it out each time: a
    tenth of the time that a plan of thousands of jobs takes.
    """
    function.__signature__ = inspect.signature(function)
    return function


def settings_of(slice_of, *wildcard_names):
    """Return a param function: a slice of the study, for the wildcards of that name."""

    @cache
    def text(*names):
        return as_text(slice_of(study, *names))

    @told_signature
    def settings(wildcards):
        return text(*(wildcards[name] for name in wildcard_names))

    return settings


@told_signature
def checkpoint_manifest(wildcards):
    """Return the manifest of the checkpoint that the wildcards name."""
    return (
        f"<results>/checkpoints/{wildcards.model}/{wildcards.checkpoint}/manifest.json"
    )


def numbered(name, number):
    """Return the name of one of several rules that differ in their outputs alone."""
    return f"{name}_{number}" if number else name


def any_of(names):
    """Return a wildcard constraint that matches exactly these names."""
    return "|".join(re.escape(name) for name in names)


def lexicon_input(wildcards):
    """Return the lexicon, or nothing where it is not in place yet; see rules/runs.smk."""
    path = study.lexicon_path
    return [path] if path is not None and os.path.exists(path) else []


def resume_dir(wildcards, output):
    """Return where unfinished training keeps its state: outputs are deleted before a rerun."""
    folder = Path(output[0]).parent
    return Path(results) / "resume" / os.path.relpath(folder, results)


def first_manifest_of(model):
    """Return the manifest of a model's first checkpoint in the sheet.

    Its tokenizer stands for the model's: a row added below changes no prompt and no corpus.
    """
    first = study.checkpoints_of(model)[0].checkpoint
    return f"<results>/checkpoints/{model}/{first}/manifest.json"


def first_checkpoint_manifest(wildcards):
    """Return the manifest of the first checkpoint of the model that the wildcards name."""
    return first_manifest_of(wildcards.model)
