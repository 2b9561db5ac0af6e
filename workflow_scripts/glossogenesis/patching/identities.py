"""Identities that hold for any model; a run that breaks one reports nothing.

What rounding explains in the shorter number formats is far more than the effects that are measured.
So some rows of every run are computed in float32 too, where the tolerance is tight, and what was
found there is recorded with the results.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glossogenesis.concepts.request import PatchedRun, PatchRequest
from glossogenesis.errors import NotFiniteError
from glossogenesis.models.anatomy import Anatomy

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}
"""Largest difference of log-probabilities that rounding explains, by number format."""


@dataclass(frozen=True)
class CheckedInFloat32:
    """The rows of a run that were computed in float32 too, as its provenance tells them."""

    rows: int
    """Prompts, pairs or posts."""
    largest: float
    """Largest difference where equal numbers must come; at most the tolerance of float32."""

    @property
    def facts(self) -> dict[str, dict[str, float]]:
        """For `Provenance.facts`."""
        return {"identities_in_float32": {"rows": self.rows, "largest": self.largest}}


def check_identities(run: PatchedRun, request: PatchRequest, anatomy: Anatomy, where: str) -> float:
    """Check a run whose last setting patches each prompt's own states.

    - Patching a prompt's own states, from any start layer, changes nothing.
    - Patching from the last layer changes nothing at the answer: no later block reads the position.

    Log-probabilities agree within rounding; in float32, generated tokens are equal too. Returns the
    largest difference.

    Raises:
        NotFiniteError: a log-probability is NaN or infinite, so that there is nothing to compare.
        RuntimeError: an identity fails, which is a fault of the program or the model's code.

    """
    unpatched = run.unpatched_log_probabilities
    asked = request.token_ids_of_interest.to(unpatched.device) >= 0
    dtype = str(anatomy.dtype).removeprefix("torch.")
    if not bool(unpatched[asked].isfinite().all()):
        raise NotFiniteError.of_model(where, "log-probabilities of unpatched prompts", dtype)
    tolerance = TOLERANCE[anatomy.dtype]
    own_states = run.log_probabilities[-1]
    largest = _check_close(own_states, unpatched[:, None], tolerance, f"{where}: `self`")
    last = anatomy.n_layers - 1
    if last in request.start_layers:
        at_last = run.log_probabilities[:, :, request.start_layers.index(last)]
        what = f"{where}: patching from the last layer"
        largest = max(largest, _check_close(at_last, unpatched[None], tolerance, what))
    if request.generate_at and anatomy.dtype == torch.float32:
        own = run.generated[-1]
        differs = (own != run.unpatched_generated[:, None]).any(dim=-1)
        if differs.any():
            prompt, place = differs.nonzero()[0].tolist()
            raise RuntimeError(
                f"{where}: patching prompt {prompt}'s own states from layer "
                f"{request.generate_at[place]} changed its answer; patched runs cannot be trusted"
            )
    by_prompt = run.log_probabilities.movedim(1, 0).movedim(-1, 1)
    if not bool(by_prompt[asked].isfinite().all()):
        raise NotFiniteError.of_model(where, "log-probabilities of patched prompts", dtype)
    return largest


def _check_close(patched: Tensor, unpatched: Tensor, tolerance: float, what: str) -> float:
    asked = torch.isfinite(unpatched).expand_as(patched)
    difference = (patched - unpatched)[asked].abs()
    largest = float(difference.max()) if difference.numel() else float("nan")
    if not largest <= tolerance:
        raise RuntimeError(
            f"{what} differs from unpatched by {largest:.2g} in log-probability, where equal "
            "numbers must come; patched runs cannot be trusted"
        )
    return largest
