"""The fast engine of component patching against the reference, on every architecture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.robustness.components.fast import capture_components, run_components
from glossogenesis.robustness.components.rows import ComponentRows, ComponentValues, Outputs
from support.tiny_classifiers import LENGTHS, random_rows, tiny_classifier
from support.tiny_models import EACH_ARCHITECTURE, random_tokens

PROMPTS = random_tokens(LENGTHS)
SOURCES = random_tokens([14, 3, 8], seed=1)


@pytest.fixture(scope="module", params=EACH_ARCHITECTURE)
def anatomy(request: pytest.FixtureRequest) -> Anatomy:
    return tiny_classifier(request.param)


@pytest.fixture(scope="module")
def values(anatomy: Anatomy) -> ComponentValues:
    return capture_components(anatomy, SOURCES, batch_size=8, mode="reference")[0]


@pytest.fixture(scope="module")
def rows(anatomy: Anatomy) -> ComponentRows:
    return random_rows(anatomy, len(PROMPTS), len(SOURCES))


@pytest.fixture(scope="module")
def expected(anatomy: Anatomy, rows: ComponentRows, values: ComponentValues) -> Tensor:
    return run_components(anatomy, PROMPTS, rows, values, mode="reference", batch_size=16)


def _close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("outputs", ["added", "before_norm"])
def test_capture_equals_reference(anatomy: Anatomy, outputs: Outputs) -> None:
    expected, logits = capture_components(
        anatomy, PROMPTS, outputs=outputs, batch_size=6, mode="reference"
    )
    for batch_size in (1, 4):
        captured, fast_logits = capture_components(
            anatomy, PROMPTS, outputs=outputs, batch_size=batch_size
        )
        _close(captured.outputs, expected.outputs)
        _close(captured.embeddings, expected.embeddings)
        _close(fast_logits, logits)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_equals_reference(
    anatomy: Anatomy,
    rows: ComponentRows,
    values: ComponentValues,
    expected: Tensor,
    batch_size: int,
) -> None:
    logits = run_components(anatomy, PROMPTS, rows, values, mode="fast", batch_size=batch_size)
    _close(logits, expected)


def test_replacements_change_the_logits(expected: Tensor, rows: ComponentRows) -> None:
    unpatched = expected[0]
    assert not rows.replaced[0].any()
    assert ((expected[1:] - unpatched).abs().amax(dim=1) > 0.05).float().mean() > 0.8


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3_text", "olmo2"])
def test_before_norm(architecture: str) -> None:
    anatomy = tiny_classifier(architecture)
    rows = random_rows(anatomy, len(PROMPTS), len(SOURCES))
    values, _ = capture_components(anatomy, SOURCES, outputs="before_norm", batch_size=8)
    before, reference, added = (
        run_components(anatomy, PROMPTS, rows, values, mode=mode, outputs=outputs, batch_size=8)
        for mode, outputs in (
            ("fast", "before_norm"),
            ("reference", "before_norm"),
            ("fast", "added"),
        )
    )
    _close(before, reference)
    assert (before - added).abs().max() > 0.05


def test_all_rows_of_one_prompt(anatomy: Anatomy, values: ComponentValues) -> None:
    rows = random_rows(anatomy, 2, len(SOURCES), seed=3)
    assert rows.prompts.unique().tolist() == [1]
    many = rows.take([*range(len(rows))] * 3)
    fast = run_components(anatomy, PROMPTS, many, values, mode="fast", batch_size=4)
    reference = run_components(anatomy, PROMPTS, rows, values, mode="reference", batch_size=16)
    _close(fast, reference.repeat(3, 1))


@pytest.mark.parametrize("architecture", ["mistral", "qwen2", "gemma2", "gemma3_text"])
@pytest.mark.parametrize("window", [2, 5, 30])
def test_windows_of_any_length(architecture: str, window: int) -> None:
    _assert_modes_agree(tiny_classifier(architecture, sliding_window=window))


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [
        ("gpt_neox", {"use_parallel_residual": False}),
        ("bloom", {"apply_residual_connection_post_layernorm": True}),
        ("bloom", {"num_attention_heads": 4, "hidden_size": 24}),
        ("llama", {"num_key_value_heads": 4, "attention_bias": True}),
        ("llama", {"num_hidden_layers": 1}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": False, "n_inner": 20}),
    ],
)
def test_variants(architecture: str, variant: dict[str, object]) -> None:
    _assert_modes_agree(tiny_classifier(architecture, **variant))


def _assert_modes_agree(anatomy: Anatomy) -> None:
    values, _ = capture_components(anatomy, SOURCES, batch_size=8)
    rows = random_rows(anatomy, len(PROMPTS), len(SOURCES))
    fast, reference = (
        run_components(anatomy, PROMPTS, rows, values, mode=mode, batch_size=8)
        for mode in ("fast", "reference")
    )
    _close(fast, reference)


def test_half_precision_is_close(anatomy: Anatomy, rows: ComponentRows) -> None:
    half = Anatomy.of(tiny_classifier(anatomy.architecture).model.to(torch.bfloat16))
    values, _ = capture_components(half, SOURCES, batch_size=8)
    assert values.outputs.dtype == torch.bfloat16
    fast, reference = (
        run_components(half, PROMPTS, rows, values, mode=mode, batch_size=8)
        for mode in ("fast", "reference")
    )
    assert fast.dtype == torch.float32
    assert (fast - reference).abs().mean() < 0.05


def test_each_batch_tells_its_rows(anatomy: Anatomy, rows: ComponentRows) -> None:
    values, _ = capture_components(anatomy, SOURCES, batch_size=8)
    finished: list[int] = []
    run_components(
        anatomy, PROMPTS, rows, values, mode="fast", batch_size=2, on_batch=finished.append
    )
    assert len(finished) == 3
    assert sum(finished) == len(rows)


def test_no_rows(anatomy: Anatomy, values: ComponentValues, rows: ComponentRows) -> None:
    none = rows.take([])
    for mode in ("fast", "reference"):
        logits = run_components(anatomy, PROMPTS, none, values, mode=mode, batch_size=8)
        assert logits.shape == (0, 5)


def test_model_is_left_as_it_was(
    anatomy: Anatomy, rows: ComponentRows, values: ComponentValues
) -> None:
    before = anatomy.config._attn_implementation
    run_components(anatomy, PROMPTS, rows, values, mode="fast", batch_size=8)
    assert anatomy.config._attn_implementation == before
    assert not any(module._forward_hooks for module in anatomy.model.modules())
