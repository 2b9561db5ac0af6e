"""
This part of the workflow draws the figures.

REQUIRED INPUTS:
    the tables
OUTPUTS:
    <results>/figures/{model}/{figure}.{svg,pdf,csv}     the data behind a figure beside it
    <results>/figures/model_sizes.{svg,pdf,csv}          all models in one figure
    <results>/figures/robustness/{figure}.{svg,pdf,csv}

STEPS:
    plot_concepts     accuracy with and without patching, start layers, what wrong answers were
    plot_features     languages, monosemanticity, quality, features between checkpoints, injection
    plot_robustness   effects of components, circuits, knockout, cues, spelling variants
"""

DRAWN_TABLES = {
    "concepts": ["accuracy", "pooled", "comparisons"],
    "features": [
        "languages",
        "stages",
        "grid",
        "monosemanticity",
        "quality",
        "tracking",
        "injection",
    ],
    "robustness": ["circuit", "knockout", "features", "cues", "variants"],
}

FIGURE_SETTINGS = {
    "concepts": stages_concepts.figure_settings,
    "features": stages_features.feature_figure_settings,
    "robustness": stages_robustness.robustness_figure_settings,
}


def drawn_tables(part):
    """Return the tables that figures of a part of the study are drawn from."""
    drawn = [table for table in tables_of(part) if table in DRAWN_TABLES[part]]
    return [f"<results>/tables/{part}_{table}.parquet" for table in drawn]


def reported_figure(part, figure):
    """Return a figure of a part of the study as SVG, which the report shows."""
    folder, _, name = figure.rpartition("/")
    model = folder if folder in study.models else "all"
    return report(
        f"<results>/figures/{figure}.svg",
        caption=f"../resources/captions/{name}.rst",
        category=part.capitalize(),
        labels={"model": model, "figure": FIGURES[name]},
    )


# Most of a figure's time goes into imports, so those of a part of the study share a process.
for part in parts_of_study():

    rule:
        name:
            f"plot_{part}"
        input:
            tables=drawn_tables(part),
        output:
            svg=[reported_figure(part, figure) for figure in figures_of(part)],
            beside=expand(
                "<results>/figures/{figure}.{format}",
                figure=figures_of(part),
                format=["pdf", "csv"],
            ),
        log:
            f"<logs>/plot_{part}.log",
        benchmark:
            f"<benchmarks>/plot_{part}.tsv"
        conda:
            "../envs/figures.yaml"
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=lambda wildcards, attempt: 15 * attempt,
        params:
            script=program("plot_figures"),
            code=code_of("plot_figures"),
            settings=settings_of(FIGURE_SETTINGS[part]),
        message:
            f"Plotting the {part} study"
        shell:
            "python {params.script} --settings {params.settings:q} --tables {input.tables:q}"
            " --output {output.svg:q} > {log:q} 2>&1"
