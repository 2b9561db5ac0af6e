"""
Says what a job asks of a machine: memory, time, disk, threads, and its priority.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""

@cache
def cost(cost_of, *names):
    """Return a cost of the study, worked out once for all jobs that have it."""
    return cost_of(study, *names)


def memory_of(cost_of, *wildcard_names):
    """Return a resource function: memory in MB, half as much again at each retry."""

    @told_signature
    def memory(wildcards, attempt):
        names = (wildcards[name] for name in wildcard_names)
        return cost(cost_of, *names).requested_memory_mb(attempt)

    return memory


def runtime_of(cost_of, *wildcard_names):
    """Return a resource function: minutes, doubled at each retry."""

    @told_signature
    def runtime(wildcards, attempt):
        names = (wildcards[name] for name in wildcard_names)
        return cost(cost_of, *names).runtime_minutes(attempt)

    return runtime


def disk_of(cost_of, *wildcard_names):
    """Return a resource function: disk space in MB."""

    @told_signature
    def disk(wildcards):
        names = (wildcards[name] for name in wildcard_names)
        needed = cost(cost_of, *names)
        return 100 + (needed.disk_bytes + needed.scratch_bytes) // 10**6

    return disk


# Of the jobs that are ready, Snakemake starts those of the highest priority, so that no core waits at the
# end: first pretraining (100), which all waits for, then what frees a disk (20), then every job of the
# longest chain, the robustness study, and the checkpoints that chains begin with (10). All others fill the
# cores beside these (0).
LONGEST_CHAIN = 10


def several_threads(wildcards):
    """Return the threads of a job that uses many: up to 8, and half of a machine's cores.

    A job that wants all of a small machine would wait until no other runs, which is at the end. On a
    cluster its cores are a job's own.
    """
    cores = workflow.resource_settings.cores
    if cores is None or not workflow.is_main_process:
        return 8
    return max(1, min(8, cores // 2))


def model_setting(name):
    """Return one key of the models' sections of the study, by model where they differ.

    Where they do not, Snakemake has no function to call for each of thousands of jobs.
    """
    by_model = {
        model: getattr(study.settings.models[model], name) for model in study.models
    }
    first, *others = by_model.values()
    if all(value == first for value in others):
        return first
    return lambda wildcards: by_model[wildcards.model]
