"""Neural scores of translations by a COMET model; needs the extra `comet`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from glossogenesis.errors import StudyError

Comet = Callable[[Sequence[str], Sequence[str], Sequence[str]], list[float]]
"""Sources, answers and references to a score of each answer."""


def load_comet(name: str, *, batch_size: int, gpu: bool) -> Comet:
    """Load a COMET model: the path of a checkpoint, or a name that is downloaded.

    StudyError where the package is not installed.
    """
    try:
        comet: Any = import_module("comet")
    except ImportError:
        raise StudyError(
            f"`features.injection.comet` asks for {name!r}, but COMET is not installed; run "
            "`pip install 'glossogenesis[comet]'`, or remove the key"
        ) from None
    # COMET's checkpoints are pickles: let torch take weights and plain values from them alone.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    path = name if Path(name).is_file() else comet.download_model(name)
    try:
        model = comet.load_from_checkpoint(path)
    except Exception as error:  # of whatever library COMET loads it with
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StudyError(
            f"{path}: no COMET model of weights alone ({first_line}); name another under "
            "`features.injection.comet`"
        ) from None

    def scores(
        sources: Sequence[str], answers: Sequence[str], references: Sequence[str]
    ) -> list[float]:
        rows = [
            {"src": source, "mt": answer, "ref": reference}
            for source, answer, reference in zip(sources, answers, references, strict=True)
        ]
        predicted = model.predict(
            rows, batch_size=batch_size, gpus=int(gpu), progress_bar=False
        ).scores
        return [float(score) for score in predicted]

    return scores
