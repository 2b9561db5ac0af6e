"""A run that breaks an identity of every model is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from glossogenesis.concepts.request import PatchedRun, PatchRequest, check_identities
from glossogenesis.concepts.translation import run_patching
from support.patch_requests import request_for
from support.tiny_models import tiny_anatomy

ANATOMY = tiny_anatomy("llama")
REQUEST: PatchRequest = request_for(ANATOMY)
RUN: PatchedRun = run_patching(ANATOMY, REQUEST, batch_size=5)


def test_a_true_run_passes_and_says_how_closely() -> None:
    assert 0 <= check_identities(RUN, REQUEST, ANATOMY, "es-en") < 1e-4
    found = check_identities(shifted(RUN, -1, 1, 5e-4), REQUEST, ANATOMY, "es-en")
    assert found == pytest.approx(5e-4, rel=0.1)


def test_patches_change_something() -> None:
    """Else the identities would hold of a run that patched nothing."""
    patched = RUN.log_probabilities[0, :, 0]
    assert (patched - RUN.unpatched_log_probabilities).nan_to_num().abs().max() > 0.1


def shifted(run: PatchedRun, setting: int, layer: int, by: float) -> PatchedRun:
    log_probabilities = run.log_probabilities.clone()
    log_probabilities[setting, 2, layer] += by
    return replace(run, log_probabilities=log_probabilities)


def test_own_states_must_change_nothing() -> None:
    with pytest.raises(RuntimeError, match=r"es-en: `self` differs .* in log-probability by 0.5"):
        check_identities(shifted(RUN, -1, 1, 0.5), REQUEST, ANATOMY, "es-en")
    check_identities(shifted(RUN, -1, 1, 1e-4), REQUEST, ANATOMY, "es-en")


def test_the_last_layer_must_change_nothing() -> None:
    with pytest.raises(RuntimeError, match=r"es-en: patching from the last layer differs"):
        check_identities(shifted(RUN, 0, 3, 0.5), REQUEST, ANATOMY, "es-en")
    check_identities(shifted(RUN, 0, 2, 0.5), REQUEST, ANATOMY, "es-en")


def test_not_a_number_is_no_equality() -> None:
    with pytest.raises(RuntimeError, match=r"`self` differs .* in log-probability by nan"):
        check_identities(shifted(RUN, -1, 1, float("nan")), REQUEST, ANATOMY, "es-en")


def test_own_states_must_give_the_same_answer() -> None:
    generated = RUN.generated.clone()
    generated[-1, 3, 2, 0] += 1
    with pytest.raises(
        RuntimeError, match=r"es-en: patching prompt 3's own states from layer 2 changed its answer"
    ):
        check_identities(replace(RUN, generated=generated), REQUEST, ANATOMY, "es-en")


def test_tolerance_follows_the_dtype() -> None:
    rounded = tiny_anatomy("llama")
    rounded.model.to(torch.bfloat16)
    assert rounded.dtype == torch.bfloat16
    check_identities(shifted(RUN, -1, 1, 0.2), REQUEST, rounded, "es-en")
    with pytest.raises(RuntimeError, match="`self` differs"):
        check_identities(shifted(RUN, -1, 1, 0.8), REQUEST, rounded, "es-en")
