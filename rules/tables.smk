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

TABLES = ["accuracy", "outcomes", "pooled", "probability", "comparisons"]
if study.has_concepts and study.several_trainings():
    TABLES.append("trainings")


rule tabulate_concepts:
    input:
        sheet=study.path(study.settings.checkpoints),
        # A function, since the list is as long as the sheet, and every job reads every rule.
        patching=lambda wildcards: [
            f"<results>/concepts/{row.model}/{row.checkpoint}/patching.parquet"
            for row in study.rows_of("concepts")
        ],
    output:
        expand("<results>/tables/concepts_{table}.parquet", table=TABLES),
        expand("<results>/tables/concepts_{table}.csv", table=TABLES),
    log:
        "<logs>/tabulate_concepts.log",
    benchmark:
        "<benchmarks>/tabulate_concepts.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
        study=study.name,
    params:
        script=program("tabulate_concepts"),
        code=code_of("tabulate_concepts"),
        settings=settings_of(stages_concepts.table_settings),
        patching=lambda wildcards, input: Path(input.patching[0]).parents[2],
        folder=lambda wildcards, output: Path(output[0]).parent,
    message:
        "Tabulating the concepts study"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --sheet {input.sheet:q} --patching {params.patching:q} --output {params.folder:q}"
        " > {log:q} 2>&1"
