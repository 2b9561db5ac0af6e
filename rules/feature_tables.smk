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

FEATURE_TABLES = [
    "languages",
    "monosemanticity",
    "quality",
    "stages",
    "sensitivity",
    "grid",
]


rule tabulate_features:
    input:
        sheet=study.path(study.settings.checkpoints),
        statistics=every_sae("features", "statistics.parquet"),
        sensitivity=every_sae("features", "sensitivity.parquet"),
        quality=every_sae("sae", "quality.json"),
        seed_quality=every_sae("sae", "quality.json", seeds="other"),
        seeds=every_sae("tracking", "seeds.parquet", seeds="compared"),
        recovery=every_recovery,
    output:
        expand("<results>/tables/features_{table}.parquet", table=FEATURE_TABLES),
        *[reported_table(table) for table in FEATURE_TABLES],
    log:
        "<logs>/tabulate_features.log",
    benchmark:
        "<benchmarks>/tabulate_features.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
        study=study.name,
    params:
        script=program("tabulate_features"),
        code=code_of("tabulate_features"),
        settings=settings_of(stages_features.feature_table_settings),
        results=results,
    message:
        "Tabulating the features study"
    shell:
        "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
        " --sheet {input.sheet:q} --results {params.results:q}"
        " --output {params.results:q}/tables > {log:q} 2>&1"


if is_tracked():

    rule tabulate_tracking:
        input:
            sheet=study.path(study.settings.checkpoints),
            matches=every_sae("tracking", "matches.parquet", checkpoints="later"),
        output:
            "<results>/tables/features_tracking.parquet",
            reported_table("tracking"),
        log:
            "<logs>/tabulate_tracking.log",
        benchmark:
            "<benchmarks>/tabulate_tracking.tsv"
        conda:
            "../envs/figures.yaml"
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=lambda wildcards, attempt: 60 * attempt,
            study=study.name,
        params:
            script=program("tabulate_tracking"),
            code=code_of("tabulate_tracking"),
            settings=settings_of(stages_features.tracking_table_settings),
            results=results,
        message:
            "Tabulating features that were followed over checkpoints"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --sheet {input.sheet:q} --results {params.results:q}"
            " --output {params.results:q}/tables > {log:q} 2>&1"


if is_injected():

    rule tabulate_injection:
        input:
            sheet=study.path(study.settings.checkpoints),
            injections=every_injection,
        output:
            "<results>/tables/features_injection.parquet",
            reported_table("injection"),
        log:
            "<logs>/tabulate_injection.log",
        benchmark:
            "<benchmarks>/tabulate_injection.tsv"
        conda:
            "../envs/figures.yaml"
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=lambda wildcards, attempt: 30 * attempt,
            study=study.name,
        params:
            script=program("tabulate_injection"),
            code=code_of("tabulate_injection"),
            settings=settings_of(stages_features.injection_table_settings),
            results=results,
        message:
            "Tabulating injections"
        shell:
            "python {params.script} --settings {params.settings:q} --study {resources.study:q}"
            " --sheet {input.sheet:q} --results {params.results:q}"
            " --output {params.results:q}/tables > {log:q} 2>&1"
