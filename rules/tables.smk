"""
This part of the workflow gathers all checkpoints into tables.

REQUIRED INPUTS:
    the patching rows of every checkpoint; the checkpoint sheet
OUTPUTS:
    <results>/tables/concepts_{accuracy,outcomes,pooled,probability,comparisons}.{parquet,csv}
    <results>/tables/concepts_trainings.{parquet,csv}      where a model is trained with several seeds

STEPS:
    tabulate_concepts   shares and intervals per checkpoint, setting, pair and start layer; tests
"""


rule tabulate_concepts:
    input:
        sheet=study.path(study.settings.checkpoints),
        patching=every("patch_translations"),
    output:
        **outputs_of("tabulate_concepts"),
    log:
        log_of("tabulate_concepts"),
    benchmark:
        benchmark_of("tabulate_concepts")
    conda:
        "../envs/figures.yaml"
    resources:
        **resources_of("tabulate_concepts"),
    params:
        **params_of("tabulate_concepts"),
        patching=lambda wildcards, input: Path(input.patching[0]).parents[2],
        folder=lambda wildcards, output: Path(output[0]).parent,
    message:
        "Tabulating the concepts study"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --sheet {input.sheet:q} --patching {params.patching:q} --output {params.folder:q}"
        " > {log:q} 2>&1"
