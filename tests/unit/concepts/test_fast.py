"""The fast engine against the reference, on every architecture."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from glossogenesis.concepts.fast import run_fast
from glossogenesis.concepts.request import NO_TOKEN, PatchedRun, PatchPrompt, run_reference
from glossogenesis.models.anatomy import Anatomy
from support.patch_requests import assert_equal_runs, request_for
from support.tiny_models import EACH_ARCHITECTURE, tiny_anatomy


@pytest.fixture(scope="module", params=EACH_ARCHITECTURE)
def anatomy(request: pytest.FixtureRequest) -> Anatomy:
    return tiny_anatomy(request.param)


@pytest.fixture(scope="module")
def expected(anatomy: Anatomy) -> PatchedRun:
    return run_reference(anatomy, request_for(anatomy), batch_size=16)


@pytest.mark.parametrize("batch_size", [1, 16, 200])
def test_equals_reference(anatomy: Anatomy, expected: PatchedRun, batch_size: int) -> None:
    request = request_for(anatomy)
    assert_equal_runs(run_fast(anatomy, request, batch_size=batch_size), expected)


def test_patches_change_the_answer(anatomy: Anatomy, expected: PatchedRun) -> None:
    finite = expected.unpatched_log_probabilities.isfinite()
    for setting in (0, 1):
        for start in (0, 1, 2):
            change = expected.log_probabilities[setting, :, start] - (
                expected.unpatched_log_probabilities
            )
            assert change[finite].abs().max() > 0.05
    assert len(expected.generated.flatten(0, 2).unique(dim=0)) > 5


def test_order_of_prompts_does_not_matter(anatomy: Anatomy, expected: PatchedRun) -> None:
    request = request_for(anatomy)
    order = [3, 0, 4, 2, 1]
    shuffled = replace(
        request,
        prompts=tuple(request.prompts[index] for index in order),
        patches=request.patches[:, order],
        token_ids_of_interest=request.token_ids_of_interest[order],
    )
    run = run_fast(anatomy, shuffled, batch_size=2)
    back = [order.index(index) for index in range(len(order))]
    restored = PatchedRun(
        log_probabilities=run.log_probabilities[:, back],
        generated=run.generated[:, back],
        unpatched_log_probabilities=run.unpatched_log_probabilities[back],
        unpatched_generated=run.unpatched_generated[back],
        residual_at_position=run.residual_at_position[back],
    )
    assert_equal_runs(restored, expected)


def test_own_states_and_last_layer_change_nothing(anatomy: Anatomy) -> None:
    run = run_fast(anatomy, request_for(anatomy), batch_size=16)
    unpatched = run.unpatched_log_probabilities
    for start in range(anatomy.n_layers):
        torch.testing.assert_close(
            run.log_probabilities[-1, :, start], unpatched, rtol=1e-5, atol=1e-5
        )
        assert torch.equal(run.generated[-1, :, start], run.unpatched_generated)
    for setting in range(3):
        assert torch.equal(run.log_probabilities[setting, :, -1], unpatched)
        assert torch.equal(run.generated[setting, :, -1], run.unpatched_generated)


def test_stop_tokens_end_rows(anatomy: Anatomy, expected: PatchedRun) -> None:
    stops = frozenset(
        {int(expected.unpatched_generated[0, 0]), int(expected.generated[0, 1, 0, 1])}
    )
    run = run_fast(anatomy, request_for(anatomy, stop_ids=stops), batch_size=16)
    given = torch.cat([run.generated.flatten(0, 2), run.unpatched_generated])
    free = torch.cat([expected.generated.flatten(0, 2), expected.unpatched_generated])
    lengths = set()
    for row, tokens in zip(given.tolist(), free.tolist(), strict=True):
        ends = [place for place, token in enumerate(tokens) if token in stops]
        length = ends[0] + 1 if ends else len(tokens)
        assert row == tokens[:length] + [NO_TOKEN] * (len(tokens) - length)
        lengths.add(length)
    assert len(lengths) > 1
    by_reference = run_reference(anatomy, request_for(anatomy, stop_ids=stops), batch_size=16)
    assert_equal_runs(run, by_reference)


@pytest.mark.parametrize(
    ("start_layers", "generate_at"),
    [((1,), ()), ((3,), (3,)), ((0, 2), (2,)), ((0, 2, 3), (0, 3)), ((), ())],
)
def test_some_start_layers(
    anatomy: Anatomy,
    expected: PatchedRun,
    start_layers: tuple[int, ...],
    generate_at: tuple[int, ...],
) -> None:
    request = request_for(anatomy, start_layers=start_layers, generate_at=generate_at)
    run = run_fast(anatomy, request, batch_size=16)
    part = replace(
        expected,
        log_probabilities=expected.log_probabilities[:, :, list(start_layers)],
        generated=expected.generated[:, :, list(generate_at)],
        unpatched_generated=expected.unpatched_generated
        if generate_at
        else torch.full_like(expected.unpatched_generated, NO_TOKEN),
    )
    assert_equal_runs(run, part)


@pytest.mark.parametrize("architecture", ["mistral", "qwen2", "gemma2", "gemma3_text"])
@pytest.mark.parametrize("window", [2, 4, 30])
def test_windows_of_any_length(architecture: str, window: int) -> None:
    anatomy = tiny_anatomy(architecture, sliding_window=window)
    request = request_for(anatomy)
    run = run_fast(anatomy, request, batch_size=16)
    assert_equal_runs(run, run_reference(anatomy, request, batch_size=16))


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [
        ("gpt_neox", {"use_parallel_residual": False}),
        ("bloom", {"apply_residual_connection_post_layernorm": True}),
        ("bloom", {"num_attention_heads": 4, "hidden_size": 24}),
        ("llama", {"num_key_value_heads": 4, "attention_bias": True}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": False, "n_inner": 20}),
    ],
)
def test_variants(architecture: str, variant: dict[str, object]) -> None:
    anatomy = tiny_anatomy(architecture, **variant)
    request = request_for(anatomy)
    run = run_fast(anatomy, request, batch_size=16)
    assert_equal_runs(run, run_reference(anatomy, request, batch_size=16))


@pytest.mark.parametrize("position", [0, 3])
def test_patch_at_the_first_token_and_single_token_suffix(anatomy: Anatomy, position: int) -> None:
    prompts = (PatchPrompt((7, 8, 9, 10, 11)[: position + 2], position), PatchPrompt((12, 13), 0))
    request = request_for(anatomy, prompts=prompts)
    run = run_fast(anatomy, request, batch_size=16)
    assert_equal_runs(run, run_reference(anatomy, request, batch_size=16))


def test_half_precision_is_close(anatomy: Anatomy) -> None:
    half = Anatomy.of(tiny_anatomy(anatomy.architecture).model.to(torch.bfloat16))
    request = request_for(half, generate_at=())
    fast = run_fast(half, request, batch_size=16)
    reference = run_reference(half, request, batch_size=16)
    assert fast.residual_at_position.dtype == torch.bfloat16
    finite = reference.log_probabilities.isfinite()
    difference = (fast.log_probabilities - reference.log_probabilities)[finite].abs()
    assert difference.mean() < 0.05


def test_model_is_left_as_it_was(anatomy: Anatomy) -> None:
    before = anatomy.config._attn_implementation
    run_fast(anatomy, request_for(anatomy), batch_size=16)
    assert anatomy.config._attn_implementation == before
