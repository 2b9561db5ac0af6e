"""
Keeps a run to the study that it started with and to itself: edits and second runs cannot mix in.

REQUIRED INPUTS:
    the study that rules/common.smk loads
OUTPUTS:
    <results>/runs/{study}-{digest}/study.yaml, checkpoints.tsv   the study as its jobs read it
    <results>/driver.lock                                         held while a run writes to <results>

STEPS:
    as a run is planned    names the copy of the study that jobs will read, and clears what a killed run locked
    before the first job   takes the folder of results, looks at the study's files, writes the copy
    after the last job     says which branches of the Hub have moved since they were fetched
"""

from glossogenesis.hub.files import moved
from glossogenesis.study.frozen import FROZEN_FROM, freeze
from glossogenesis.workflow.program import claim_results, remove_stale_locks, running_in

SNAKEMAKE_LOCKS = Path(".snakemake/locks")


if workflow.is_main_process:
    frozen = freeze(config, study.name, study.file, study.sheet, results)
    # Jobs on a cluster load the study again, each when it starts: from the copy, which nobody edits.
    workflow.config_settings.configfiles = [frozen.file.absolute()]
    remove_stale_locks(results, SNAKEMAKE_LOCKS)
    if not workflow.output_settings.dryrun and (owner := running_in(results)):
        logger.warning(f"{results}: {owner} is running a study here")
elif FROZEN_FROM not in config:
    raise WorkflowError(
        "A job was started without the frozen copy of its study; report this with the version "
        "of Snakemake and its executor"
    )


# A dry run starts nothing, so it plans a study before its lexicon and checkpoints are in place.
onstart:
    # Held by the module, not by this block, whose end would free the folder.
    global driver_lock
    try:
        driver_lock = claim_results(results)
        preflight.check_files(study, results)
        frozen.write()
    except StudyError as error:
        raise WorkflowError(str(error)) from None
    drop_idle_rounds(workflow.scheduler)
    logger.info(f"This run's jobs read {frozen.file}")


def notes():
    """Return what a reader of the results should know, for the report and the end of a run."""
    return [
        *preflight.left_out(results),
        *preflight.same_weights(study, results),
        *preflight.same_steps(study.sheet),
    ]


# Set after the study is frozen, which it is no part of. A function: only the report calls it.
config["notes"] = notes


report: "../resources/captions/study.rst"


def report_moved_branches():
    """Say which branches no longer stand for the commits that the study keeps."""
    for line in notes():
        logger.warning(line)
    rows = [(row.model, row.checkpoint) for row in study.sheet]
    corpora = [(corpus,) for corpus in study.settings.corpora]
    for line in moved(results, [*rows, *corpora]):
        logger.warning(line)


onsuccess:
    report_moved_branches()


onerror:
    report_moved_branches()
