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


def tables_of(part):
    """Return the tables of a part of the study."""
    paths = registry.targets_of(study, part)
    return [f"<results>/{path}" for path in paths if path.endswith(".parquet")]


def reported_figure(part, path):
    """Return a figure of a part of the study as SVG, which the report shows."""
    *_, folder, name = Path(path).with_suffix("").parts
    return report(
        path,
        caption=f"../resources/captions/{name}.rst",
        category=part.capitalize(),
        labels={
            "model": folder if folder in study.models else "all",
            "figure": FIGURES[name],
        },
    )


# Most of a figure's time goes into imports, so those of a part of the study share a process.
for part in registry.PARTS:
    if not in_study(f"plot_{part}"):
        continue

    figures = every(f"plot_{part}")(None)

    rule:
        name:
            f"plot_{part}"
        input:
            tables=tables_of(part),
        output:
            svg=[reported_figure(part, path) for path in figures],
            beside=[
                str(Path(path).with_suffix(ending))
                for path in figures
                for ending in (".pdf", ".csv")
            ],
        log:
            log_of(f"plot_{part}"),
        benchmark:
            benchmark_of(f"plot_{part}")
        conda:
            "../envs/figures.yaml"
        resources:
            **resources_of(f"plot_{part}"),
        params:
            **params_of(f"plot_{part}"),
        message:
            f"Plotting the {part} study"
        shell:
            "python {params.script} --settings {params.settings:q} --tables {input.tables:q}"
            " --output {output.svg:q} > {log:q} 2>&1"
