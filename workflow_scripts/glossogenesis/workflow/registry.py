"""All stages of the workflow, in the order in which they run, and what follows from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from glossogenesis.study.study import Study
from glossogenesis.workflow import (
    stages_checkpoints,
    stages_concepts,
    stages_features,
    stages_robustness,
)
from glossogenesis.workflow.stages import Artifact, Part, Setup, Stage

STAGES: Mapping[str, Stage] = {
    stage.name: replace(stage, part=part)
    for part, stages in (
        ("checkpoints", stages_checkpoints),
        ("concepts", stages_concepts),
        ("features", stages_features),
        ("robustness", stages_robustness),
    )
    for stage in stages.STAGES
}
"""By the names of their rules."""

CACHES = tuple(dict.fromkeys(stage.reads_cache for stage in STAGES.values() if stage.reads_cache))
"""Stages that write activations."""

PARTS: tuple[Part, ...] = ("concepts", "features", "robustness")

FIGURES = stages_concepts.FIGURES | stages_features.FIGURES | stages_robustness.FIGURES
"""What the report calls each figure."""

_NUMBER = re.compile(r"_[0-9]+$")


def stage_of_rule(rule: str) -> Stage:
    """Return the stage of a rule, which has a number where others differ in their layers alone."""
    return STAGES[_NUMBER.sub("", rule)]


def written_by(path: str) -> tuple[Stage, Setup] | None:
    """Return the stage and setup of a path below the results, None where no stage writes it."""
    for stage in STAGES.values():
        for artifact in (*stage.outputs.values(), *stage.beside):
            if (setup := artifact.setup_of(path)) is not None:
                return stage, setup
    return None


def blocks_of(study: Study, stage: Stage) -> dict[tuple[int, ...], list[str]]:
    """Return the layers that one job of a stage does, each with the models that have such a job."""
    models = dict.fromkeys(setup["model"] for setup in stage.jobs_in(study))
    found: dict[tuple[int, ...], list[str]] = {}
    for model in models:
        layers = study.layers_of(model)
        size = (stage.in_blocks and study.settings.models[model].layers_per_job) or len(layers)
        for start in range(0, len(layers), size):
            found.setdefault(layers[start : start + size], []).append(model)
    return found


def targets_of(study: Study, part: Part) -> list[str]:
    """Return the tables and figures that a part of a study ends in, with their copies."""
    return [
        str(PurePosixPath(path).with_suffix(ending))
        for stage in STAGES.values()
        if stage.part == part and stage.name.startswith(("tabulate_", "plot_"))
        for name, output in stage.artifacts_in(study).items()
        for path in stage.paths(study, name)
        for ending in (PurePosixPath(path).suffix, *output.copies)
    ]


def words_by_kind() -> dict[tuple[str, str], str]:
    """Return what artifacts are, by the `kind` in their provenance and the end of their names.

    Where files of one kind and end differ, it is the whole name.
    """
    names: dict[tuple[str, str], dict[str, str]] = {}
    for artifact in _artifacts():
        path = PurePosixPath(artifact.path)
        if artifact.kind:
            words = names.setdefault((artifact.kind, path.suffix), {})
            words.setdefault(path.name, artifact.words)
    return {
        (kind, ending if len(words) == 1 else name): text
        for (kind, ending), words in names.items()
        for name, text in words.items()
    }


def map_of_results() -> list[str]:
    """Return the rows of the table in results/README.md: a path and what lies there."""
    rows = []
    for artifact in _artifacts():
        endings = "".join(f", `{ending}`" for ending in artifact.copies)
        rows.append(f"| `{artifact.path}`{endings} | {artifact.words} |")
    return list(dict.fromkeys(rows))


def _artifacts() -> list[Artifact]:
    return [
        artifact
        for stage in STAGES.values()
        for artifact in (*stage.outputs.values(), *stage.beside)
    ]
