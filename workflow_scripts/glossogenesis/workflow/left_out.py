"""A checkpoint that was left out stays so: what is made from an empty artifact is empty too."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from glossogenesis.sae.files import WEIGHTS_FILE, origin_of_sae
from glossogenesis.storage.files import read_json
from glossogenesis.storage.provenance import LEFT_OUT, Provenance, reason_left_out
from glossogenesis.workflow.program import provenance_of


def left_out(
    arguments: argparse.Namespace, kind: str, inputs: Mapping[str, Path]
) -> Provenance | None:
    """Return the provenance of an empty artifact where an input is empty; None where none is.

    The artifact is of the model, checkpoint and layer of the first of the `inputs`.
    """
    reason = reason_in(inputs.values())
    if reason is None:
        return None
    print(f"Left out: {reason}")
    own = _origin_of(next(iter(inputs.values())))
    return provenance_of(
        arguments,
        kind,
        inputs,
        **own.origin,
        facts={LEFT_OUT: reason},
    )


def reason_in(paths: Iterable[Path]) -> str | None:
    """Return why the first of some artifacts that is empty was left out; None where none is."""
    return next(filter(None, (reason_left_out(_origin_of(path)) for path in paths)), None)


def _origin_of(path: Path) -> Provenance:
    """Return the provenance of a table, an autoencoder or a manifest of activations."""
    if path.suffix == ".parquet":
        # Programs that read no table are spared polars.
        from glossogenesis.storage import tables

        return tables.read_provenance(path)
    if path.name == WEIGHTS_FILE:
        return origin_of_sae(path)
    return Provenance(**read_json(path)["provenance"])
