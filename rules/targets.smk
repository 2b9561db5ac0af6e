"""
Says which tables and figures each part of the study ends in.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""


def concepts_targets():
    """Return the tables and figures of the concepts study, none where it is not enabled."""
    if not study.has_concepts:
        return []
    return [
        *expand(
            "<results>/tables/concepts_{table}.{format}",
            table=TABLES,
            format=["parquet", "csv"],
        ),
        *expand(
            "<results>/figures/{model}/{figure}.svg",
            model=study.models_of("concepts"),
            figure=FIGURES,
        ),
    ]


def features_targets():
    """Return the tables and figures of the features study, none where it is not enabled."""
    if not study.has_features:
        return []
    models = study.models_of("features")
    figures = [*FEATURE_FIGURES, *(TRACKING_FIGURES if is_tracked() else [])]
    targets = expand(
        "<results>/tables/features_{table}.{format}",
        table=feature_tables(),
        format=["parquet", "csv"],
    ) + expand("<results>/figures/{model}/{figure}.svg", model=models, figure=figures)
    if len(models) > 1:
        targets.append("<results>/figures/model_sizes.svg")
    if is_injected():
        targets.append(
            f"<results>/figures/{feature_settings.injection_model(study)}/injection.svg"
        )
    return targets


def feature_tables():
    """Return the tables of the features study that its settings ask for."""
    return [
        *FEATURE_TABLES,
        *(["tracking"] if is_tracked() else []),
        *(["injection"] if is_injected() else []),
    ]


def is_tracked():
    """Tell whether features are followed over checkpoints."""
    return study.features.tracking.enabled


def is_injected():
    """Tell whether features are injected."""
    injection = study.features.injection
    return injection is not None and injection.enabled


def robustness_targets():
    """Return the tables and figures of the robustness study, none where it is not enabled."""
    if not study.has_robustness:
        return []
    return [
        *expand(
            "<results>/tables/robustness_{table}.{format}",
            table=robustness_tables(),
            format=["parquet", "csv"],
        ),
        *expand(
            "<results>/figures/{model}/component_effects.svg",
            model=study.robustness.models,
        ),
        *expand(
            "<results>/figures/robustness/{figure}.svg", figure=robustness_figures()
        ),
    ]


def robustness_tables():
    """Return the tables of the robustness study that its settings ask for."""
    variants = ["variants"] if has_variants() else []
    return [*ROBUSTNESS_TABLES, *variants]


def robustness_figures():
    """Return the figures of all models of the robustness study that its settings ask for."""
    variants = ["spelling_variants"] if has_variants() else []
    return [*ROBUSTNESS_FIGURES, *variants]


def has_variants():
    """Tell whether spelling variants are compared."""
    return study.robustness.variants is not None
