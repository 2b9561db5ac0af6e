"""
Gives rules what the registry of stages says of them: paths, programs, settings, and what a job asks for.

REQUIRED INPUTS:
    the study that rules/common.smk loads
    workflow/registry.py, where every stage is declared: what it writes, costs and computes with
"""

code_digests = CodeDigests()


def code_of(script):
    """Return the digest of a program's code, as a param.

    A job needs that of its own rule alone, and reads no other rule's code.
    """
    if workflow.is_main_process:
        return code_digests.of(script)
    return lambda wildcards: code_digests.of(script)


def program(name):
    """Return the path of a rule's script for a shell, relative to the working directory."""
    path = os.path.relpath(Path(workflow.basedir) / "workflow_scripts" / f"{name}.py")
    return shlex.quote(path)


def with_signature(function):
    """Return the function with its signature beside it.

    Snakemake asks for the signature whenever it calls a function, and Python works it out each time: a
    tenth of the time that a plan of thousands of jobs takes.
    """
    function.__signature__ = inspect.signature(function)
    return function


def of_wildcards(function, layers=()):
    """Return a function of a stage as one of wildcards, worked out once for all jobs that have them equal."""
    names = [name for name in stages.names_taken(function) if name != "layers"]
    number = {"layers": len(layers)} if "layers" in stages.names_taken(function) else {}
    kept = cache(lambda *values: function(study, *values, **number))
    return with_signature(lambda wildcards: kept(*(wildcards[name] for name in names)))


def params_of(name):
    """Return the params of a rule: its program, that program's code, and its settings.

    Settings are JSON with sorted keys, so that equal settings are equal text.
    """
    script = STAGES[name].program_of(study)
    slice_of = STAGES[name].settings

    def as_text(study, *names):
        return json.dumps(slice_of(study, *names), ensure_ascii=False, sort_keys=True)

    if slice_of is not None:
        as_text.__signature__ = inspect.signature(slice_of)
    settings = "{}" if slice_of is None else of_wildcards(as_text)
    return {"script": program(script), "code": code_of(script), "settings": settings}


def resources_of(name, layers=()):
    """Return the resources of a rule; memory grows by half at each retry, minutes double."""
    stage = STAGES[name]
    cost = of_wildcards(stage.cost, layers)
    asked = {
        "mem_mb": lambda wildcards, attempt: cost(wildcards).requested_memory_mb(
            attempt
        ),
        "runtime": lambda wildcards, attempt: cost(wildcards).runtime_minutes(attempt),
        "disk_mb": lambda wildcards: cost(wildcards).disk_mb,
    }
    asked = {key: with_signature(resource) for key, resource in asked.items()}
    if stage.gpu and "{model}" in stage.path():
        asked |= {
            "gpu": model_setting("gpus"),
            "batch_size": model_setting("batch_size"),
            "device": model_setting("device"),
        }
    if stage.hub:
        asked["hub"] = study.settings.hub.mode
    return {**asked, "study": study.name}


def threads_of(name):
    """Return the threads of a rule's jobs."""
    threads = STAGES[name].threads
    if callable(threads):
        wildcard, _ = stages.names_taken(threads)
        return lambda wildcards: threads(
            study, wildcards[wildcard], several_threads(wildcards)
        )
    return several_threads if threads == "several" else model_setting("threads")


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


def made(name, output=None, layers=None, **chosen):
    """Return the path of a stage's output, or one for each of some layers.

    Wildcards stay in it but for those whose value is chosen. The output is by default the first.
    """
    path = f"<results>/{STAGES[name].path(output)}"
    for wildcard, value in chosen.items():
        path = path.replace(f"{{{wildcard}}}", str(value))
    if layers is None:
        return path
    return [path.replace("{layer}", str(layer)) for layer in layers]


def every(name, *outputs):
    """Return an input function: outputs of all jobs of a stage, by default the first.

    A function, since the list is as long as the sheet, and every job's Snakemake reads every rule.
    """
    return lambda wildcards: [
        f"<results>/{path}"
        for output in outputs or [None]
        for path in STAGES[name].paths(study, output)
    ]


def of_all_layers(stage, *outputs):
    """Return an input function: outputs of one kind of autoencoder at every layer of a model."""
    return lambda wildcards: [
        path
        for output in outputs
        for path in made(stage, output, study.layers_of(wildcards.model))
    ]


def outputs_of(name, layers=None):
    """Return the outputs of a rule by their names, and of tables the copies that the report shows."""
    artifacts = STAGES[name].artifacts_in(study)
    outputs = {output: made(name, output, layers) for output in artifacts}
    if copies := [path for path in outputs.values() if "/tables/" in path]:
        outputs["copies"] = [reported_table(path) for path in copies]
    return outputs


def reported_table(path):
    """Return the copy of a table as CSV, which the report shows where the table has a caption."""
    copy = Path(path).with_suffix(".csv")
    caption = f"resources/captions/{copy.stem}_table.rst"
    if not (Path(workflow.basedir) / caption).exists():
        return str(copy)
    part, _, table = copy.stem.partition("_")
    return report(
        str(copy),
        caption=f"../{caption}",
        category=part.capitalize(),
        labels={"model": "all", "figure": f"table: {table}"},
    )


def log_of(name, layers=(None,)):
    """Return the log of a rule's jobs, which are named by what their outputs are of."""
    return f"<logs>/{STAGES[name].job_path(layers[0])}.log"


def benchmark_of(name, layers=(None,)):
    """Return where a rule's jobs write their time and memory."""
    return f"<benchmarks>/{STAGES[name].job_path(layers[0])}.tsv"


def numbered_rules(name):
    """Yield the number of each rule of a stage, the layers that one of its jobs does, and the models."""
    blocks = registry.blocks_of(study, STAGES[name])
    for number, (layers, models) in enumerate(blocks.items()):
        yield f"_{number}" if number else "", layers, "|".join(map(re.escape, models))


# Of the jobs that are ready, Snakemake starts those of the highest priority, so that no core waits at the
# end: first pretraining (100), which all waits for, then what frees a disk (20), then every job of the
# longest chain, the robustness study, and the checkpoints that chains begin with (10). All others fill the
# cores beside these (0).
LONGEST_CHAIN = 10
