"""
This part of the workflow gathers the features study over all checkpoints into tables.

REQUIRED INPUTS:
    statistics, quality, recovery, matches and injections of every checkpoint; the checkpoint sheet
OUTPUTS:
    <results>/tables/features_{languages,monosemanticity,quality,stages,sensitivity,grid}.{parquet,csv}
    <results>/tables/features_{tracking,injection}.{parquet,csv}

STEPS:
    tabulate_features    languages, monosemanticity, quality, the three stages, sensitivity, the grid
    tabulate_tracking    births, deaths and changes of language
    tabulate_injection   perplexity and translation by group of features
"""


rule tabulate_features:
    input:
        sheet=study.path(study.settings.checkpoints),
        features=every("collect_features", "statistics", "sensitivity"),
        quality=every("measure_quality"),
        seeds=every("compare_seeds"),
        recovery=every("measure_recovery"),
    output:
        **outputs_of("tabulate_features"),
    log:
        log_of("tabulate_features"),
    benchmark:
        benchmark_of("tabulate_features")
    conda:
        "../envs/figures.yaml"
    resources:
        **resources_of("tabulate_features"),
    params:
        **params_of("tabulate_features"),
        results=results,
    message:
        "Tabulating the features study"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --sheet {input.sheet:q} --results {params.results:q}"
        " --output {params.results:q}/tables > {log:q} 2>&1"


if in_study("tabulate_tracking"):

    rule tabulate_tracking:
        input:
            sheet=study.path(study.settings.checkpoints),
            matches=every("match_features"),
        output:
            **outputs_of("tabulate_tracking"),
        log:
            log_of("tabulate_tracking"),
        benchmark:
            benchmark_of("tabulate_tracking")
        conda:
            "../envs/figures.yaml"
        resources:
            **resources_of("tabulate_tracking"),
        params:
            **params_of("tabulate_tracking"),
            results=results,
        message:
            "Tabulating features that were followed over checkpoints"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --sheet {input.sheet:q} --results {params.results:q}"
            " --output {params.results:q}/tables > {log:q} 2>&1"


if in_study("tabulate_injection"):

    rule tabulate_injection:
        input:
            sheet=study.path(study.settings.checkpoints),
            injections=every("inject_features", "perplexity", "translation"),
        output:
            **outputs_of("tabulate_injection"),
        log:
            log_of("tabulate_injection"),
        benchmark:
            benchmark_of("tabulate_injection")
        conda:
            "../envs/figures.yaml"
        resources:
            **resources_of("tabulate_injection"),
        params:
            **params_of("tabulate_injection"),
            results=results,
        message:
            "Tabulating injections"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --sheet {input.sheet:q} --results {params.results:q}"
            " --output {params.results:q}/tables > {log:q} 2>&1"
