"""
Says which tables and figures each part of the study ends in.

REQUIRED INPUTS:
    the study that rules/common.smk loads
"""

FIGURES = {
    "unpatched_accuracy": "accuracy without patching",
    "patched_accuracy": "accuracy of patched settings",
    "start_layers": "accuracy over start layer",
    "concepts_differences": "differences of settings and checkpoints",
    "outcomes": "outcomes",
    "feature_languages": "languages of features",
    "monosemanticity": "monosemanticity",
    "bilingual_features": "bilingual features by depth",
    "feature_heatmap": "layers and checkpoints",
    "sae_quality": "quality of autoencoders",
    "feature_tracking": "features between checkpoints",
    "injection": "injection",
    "model_sizes": "models compared",
    "component_effects": "effects of components",
    "circuit_ablation": "circuits",
    "knockout": "knockout",
    "cues": "cues",
    "spelling_variants": "spelling variants",
}
"""What the report calls each figure."""


def parts_of_study():
    """Return the parts of the study that are enabled."""
    enabled = {
        "concepts": study.has_concepts,
        "features": study.has_features,
        "robustness": study.has_robustness,
    }
    return [part for part in enabled if enabled[part]]


def targets_of(part):
    """Return the tables and figures of a part of the study, none where it is not enabled."""
    if part not in parts_of_study():
        return []
    tables = expand(
        "<results>/tables/{part}_{table}.{format}",
        part=part,
        table=tables_of(part),
        format=["parquet", "csv"],
    )
    return tables + expand("<results>/figures/{figure}.svg", figure=figures_of(part))


def tables_of(part):
    """Return the tables of a part of the study that its settings ask for."""
    if part == "concepts":
        return TABLES
    if part == "robustness":
        return robustness_tables()
    tracking = ["tracking"] if is_tracked() else []
    return [*FEATURE_TABLES, *tracking, *(["injection"] if is_injected() else [])]


def robustness_tables():
    """Return the tables of the robustness study that its settings ask for."""
    variants = ["variants"] if has_variants() else []
    return [*ROBUSTNESS_TABLES, *variants]


def figures_of(part):
    """Return the figures of a part of the study that its settings ask for, as paths without ending.

    A figure of one model lies in the folder of its name.
    """
    if part == "robustness":
        names = ["circuit_ablation", "knockout", "cues"]
        names += ["spelling_variants"] if has_variants() else []
        effects = [f"{model}/component_effects" for model in study.robustness.models]
        return [*effects, *(f"robustness/{name}" for name in names)]
    if part == "concepts":
        names = [
            "unpatched_accuracy",
            "patched_accuracy",
            "start_layers",
            "concepts_differences",
            "outcomes",
        ]
    else:
        names = [
            "feature_languages",
            "bilingual_features",
            "monosemanticity",
            "feature_heatmap",
            "sae_quality",
        ]
        names += ["feature_tracking"] if is_tracked() else []
    models = study.models_of(part)
    figures = [f"{model}/{name}" for model in models for name in names]
    if part == "features":
        figures += ["model_sizes"] if len(models) > 1 else []
        if is_injected():
            figures.append(f"{stages_features.injection_model(study)}/injection")
    return figures


def is_tracked():
    """Return whether features are followed over checkpoints."""
    return study.features.tracking.enabled


def is_injected():
    """Return whether features are injected."""
    injection = study.features.injection
    return injection is not None and injection.enabled


def has_variants():
    """Return whether spelling variants are compared."""
    return study.robustness.variants is not None
