"""What the robustness study needs of the rest of a study: models, checkpoints, layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glossogenesis.errors import StudyError
from glossogenesis.study.loading import check_layers, check_tokenizer

if TYPE_CHECKING:
    from glossogenesis.study.study import Study


def check_robustness(study: Study) -> None:
    """Check section `robustness` against the study; StudyError names the key and the mend."""
    sheet = study.path(study.settings.checkpoints)
    for model, checkpoint in study.robustness.models.items():
        there = [row.checkpoint for row in study.checkpoints_of(model)]
        if not there:
            raise StudyError(
                f"{study.file}: `robustness.models` names {model!r}, which has no row in {sheet}; "
                "add rows or correct the name"
            )
        if checkpoint not in there:
            raise StudyError(
                f"{study.file}: `robustness.models.{model}` is {checkpoint!r}, which {sheet} does "
                f"not have (there: {', '.join(there)}); correct the name or add a row"
            )
        check_layers(study, model)
        check_tokenizer(study, model)
    _check_dictionaries(study)


def _check_dictionaries(study: Study) -> None:
    """Top features are fewer than the dictionary has, where its size is known."""
    robustness = study.robustness
    for name, sae in robustness.saes.items():
        for model in robustness.models:
            size = study.trained_size_of(model)
            latents = sae.latents if size is None else sae.latents_of(size.hidden)
            if latents is not None and latents <= robustness.label_features.top:
                raise StudyError(
                    f"{study.file}: `robustness.label_features.top` is "
                    f"{robustness.label_features.top}, but `robustness.saes.{name}` has only "
                    f"{latents} latents for {model!r}; lower the former or enlarge the latter"
                )
