"""What is suspicious in a study and not wrong: said in the log, in a plan and in the report."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from glossogenesis.checkpoint_checks import check_small_files, local_checkpoints
from glossogenesis.errors import StudyError
from glossogenesis.models.weight_files import check_weights
from glossogenesis.storage.provenance import LEFT_OUT
from glossogenesis.study.sheet import same_steps
from glossogenesis.study.study import Study

READ_WHOLE = 1 << 26
"""Bytes up to which a weights file is compared whole."""

SAMPLES, SAMPLED = 256, 4096
"""Of a larger file, how many evenly spaced samples of how many bytes are compared."""

TABLES = ("concepts_accuracy", "features_languages", "features_tracking", "features_injection")
"""One of each program that leaves out what diverged."""


def suspicious(study: Study, results: Path) -> list[str]:
    """Return a line for each thing that a user should look at; StudyError as `check_small_files`.

    Weights that were not taken up yet are compared by samples of their bytes.
    """
    return [
        *check_small_files(study, results),
        *same_steps(study.sheet),
        *same_weights(study, results),
    ]


def same_weights(study: Study, results: Path) -> list[str]:
    """Return the rows of a model that are one and the same weights, a line for each."""
    digests = _recorded(study, results) | _sampled(study, results)
    names: dict[tuple[str, str], list[str]] = {}
    for (model, checkpoint), digest in digests.items():
        names.setdefault((model, digest), []).append(checkpoint)
    sheet = study.path(study.settings.checkpoints)
    return [
        f"{sheet}: checkpoints {', '.join(map(repr, found))} of model {model!r} have the same "
        "weights: one checkpoint stands under several names, or a revision is wrong; check their "
        "`source`, `revision` and `subfolder`"
        for (model, _), found in names.items()
        if len(found) > 1
    ]


def left_out(results: Path) -> list[str]:
    """Return which checkpoints the studies' tables do without, and why."""
    reasons: list[str] = []
    for name in TABLES:
        path = results / "tables" / f"{name}.parquet"
        if path.exists():
            # Only then: the library that reads a table takes a moment to import.
            from glossogenesis.storage.tables import read_provenance

            with suppress(StudyError):
                reasons += read_provenance(path).facts.get(LEFT_OUT, {}).values()
    return [f"not in tables and figures: {reason}" for reason in dict.fromkeys(reasons)]


def _recorded(study: Study, results: Path) -> dict[tuple[str, str], str]:
    """Return a digest of the weights of each checkpoint that was taken up."""
    digests = {}
    for row in study.sheet:
        manifest = results / "checkpoints" / row.model / row.checkpoint / "manifest.json"
        try:
            weights = json.loads(manifest.read_text(encoding="utf-8"))["weights"]
            files = sorted(facts["sha256"] for facts in weights.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # Whoever reads the manifest for its job says what is wrong with it.
            continue
        digests[row.model, row.checkpoint] = " ".join(files)
    return digests


def _sampled(study: Study, results: Path) -> dict[tuple[str, str], str]:
    """Return a digest of samples of the weights of each folder that was not taken up yet."""
    digests = {}
    for found in local_checkpoints(study, results):
        try:
            files = check_weights(found.folder) if found.folder.is_dir() else []
        except StudyError:
            # The preflight says it.
            continue
        digest = hashlib.sha256()
        for path in files:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                if size <= READ_WHOLE:
                    digest.update(file.read())
                    continue
                for sample in range(SAMPLES):
                    file.seek(sample * (size - SAMPLED) // (SAMPLES - 1))
                    digest.update(file.read(SAMPLED))
        if files:
            digests[found.row.model, found.row.checkpoint] = digest.hexdigest()
    return digests
