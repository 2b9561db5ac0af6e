"""A checkpoint that gives NaN or infinite numbers: named where they arise, and left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glossogenesis.errors import StudyError
from glossogenesis.provenance import Provenance

if TYPE_CHECKING:
    from torch import Tensor

LEFT_OUT = "left_out"
"""The fact of an artifact that is empty, as its checkpoint cannot be measured: why."""


class NotFiniteError(StudyError):
    """A model gives numbers that are NaN or infinite."""

    def __init__(self, described_as: str, what: str, dtype: str) -> None:
        diverged = "its weights are not finite (its training diverged)"
        if dtype == "float32":
            cause = f"{diverged}, or its activations are beyond even float32"
        else:
            cause = (
                f"{diverged}, or its activations are beyond what {dtype} holds: then set its "
                "`dtype` to float32 under `models`"
            )
        super().__init__(f"{described_as}: {what} are NaN or infinite; either {cause}")


def check_finite_states(by_pair: Mapping[str, Tensor], described_as: str, dtype: str) -> None:
    """NotFiniteError where states `[concept, layer, d_model]` are not finite; names the layer."""
    bad = [~states.isfinite().all(dim=2).all(dim=0) for states in by_pair.values()]
    layers = [int(of_pair.nonzero()[0, 0]) for of_pair in bad if bool(of_pair.any())]
    if layers:
        raise NotFiniteError(described_as, f"the states of layer {min(layers)}", dtype)


def reason_left_out(provenance: Provenance) -> str | None:
    """Return why an artifact's checkpoint could not be measured; None where it was."""
    reason = provenance.facts.get(LEFT_OUT)
    return None if reason is None else str(reason)
