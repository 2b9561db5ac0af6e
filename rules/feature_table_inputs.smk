"""
Says what the tables of the features study gather, and how the report shows them.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""


def every_sae(stage, name, seeds="first", checkpoints="all"):
    """Return an input function: one file of every setup (model, checkpoint, layer, autoencoder).

    `seeds` is `first`, `other`, or `compared` (the first, where there are several); `checkpoints`
    is `all`, or `later`: all but each model's first. A function, since the list is as long as the
    sheet, and every job's Snakemake reads every rule.
    """

    def files(wildcards):
        first = set(study.features.saes)
        chosen = {
            "first": first,
            "other": set(study.features.trained) - first,
            "compared": {
                name for name, sae in study.features.saes.items() if len(sae.seeds) > 1
            },
        }[seeds]
        saes = [sae for sae in study.features.trained if sae in chosen]
        rows = study.rows_of("features")
        if checkpoints == "later":
            rows = [
                row for row in rows if earlier_checkpoints(row.model)[row.checkpoint]
            ]
        return [
            f"<results>/{stage}/{row.model}/{row.checkpoint}/layer_{layer}/{sae}/{name}"
            for row in rows
            for layer in study.layers_of(row.model)
            for sae in saes
        ]

    return files


def every_recovery(wildcards):
    """Return the recovered cross-entropy of every checkpoint, none where it is not measured."""
    if not study.features.recovery.enabled:
        return []
    return [
        f"<results>/recovery/{row.model}/{row.checkpoint}/{sae}.parquet"
        for row in study.rows_of("features")
        for sae in study.features.saes
    ]


def every_injection(wildcards):
    """Return the results of every injection."""
    model = stages_features.injection_model(study)
    return [
        f"<results>/injection/{model}/{checkpoint}/{name}.parquet"
        for checkpoint in stages_features.injection_targets(study)
        for name in ("perplexity", "translation")
    ]


def reported_table(name):
    """Return a table of the features study as CSV, which the report shows."""
    return report(
        f"<results>/tables/features_{name}.csv",
        caption=f"../resources/captions/features_{name}_table.rst",
        category="Features",
        labels={"model": "all", "figure": f"table: {name}"},
    )
