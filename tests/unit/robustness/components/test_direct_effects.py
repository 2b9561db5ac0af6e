"""Direct logit attribution: identities of linear maps, on every architecture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.robustness.components.effects import (
    FrozenNorm,
    PatchedPairs,
    PatchingRule,
    component_effects,
)
from glossogenesis.robustness.components.fast import capture_components
from glossogenesis.robustness.components.rows import Outputs
from support.tiny_classifiers import LENGTHS, tiny_classifier
from support.tiny_models import EACH_ARCHITECTURE, random_tokens

PROMPTS = random_tokens(LENGTHS)
CLEAN = torch.tensor([0, 2, 0, 4, 3])
CORRUPTED = torch.tensor([1, 1, 5, 0, 2])
LABELS = torch.tensor([0, 3, 1, 4, 2])
PAIRS = PatchedPairs(CLEAN, CORRUPTED, LABELS)


@pytest.fixture(params=EACH_ARCHITECTURE)
def anatomy(request: pytest.FixtureRequest) -> Anatomy:
    return tiny_classifier(request.param)


def last_streams(anatomy: Anatomy) -> Tensor:
    """What enters the final norm at each prompt's last token, by the whole model alone."""
    found: list[Tensor] = []
    norm: Any = anatomy.final_norm
    handle = norm.register_forward_pre_hook(lambda module, given: found.append(given[0][0, -1]))
    with torch.inference_mode():
        for ids in PROMPTS:
            anatomy.base(torch.tensor([ids]), use_cache=False)
    handle.remove()
    return torch.stack(found)


def scale_of(anatomy: Anatomy, streams: Tensor) -> Tensor:
    centred = isinstance(anatomy.final_norm, nn.LayerNorm)
    about = streams - streams.mean(dim=-1, keepdim=True) if centred else streams
    return about.square().mean(dim=-1).sqrt()


def with_scale(anatomy: Anatomy, logits: Tensor, own: Tensor, held: Tensor) -> Tensor:
    """Logits `[row, label]` with the norm's scale changed: all but its bias is divided by it."""
    bias = getattr(anatomy.final_norm, "bias", None)
    head: Any = anatomy.head
    constant = head(bias) if bias is not None else torch.zeros(logits.shape[-1])
    return (logits - constant) * (own / held)[:, None] + constant


def of_labels(logits: Tensor) -> Tensor:
    return logits.gather(1, LABELS[:, None])[:, 0]


@pytest.mark.parametrize("outputs", ["added", "before_norm"])
@pytest.mark.parametrize("mode", ["fast", "reference"])
def test_direct_parts_and_the_embeddings_make_up_the_difference_of_logits(
    anatomy: Anatomy, mode: Any, outputs: Outputs
) -> None:
    effects = component_effects(anatomy, PROMPTS, PAIRS, PatchingRule(mode, outputs, 4))
    streams = last_streams(anatomy)
    scales = scale_of(anatomy, streams)
    logits = anatomy.logits(streams)
    held = with_scale(anatomy, logits[CLEAN], scales[CLEAN], scales[CORRUPTED])
    expected = of_labels(held) - of_labels(logits[CORRUPTED])
    torch.testing.assert_close(effects.direct.total, expected, rtol=1e-4, atol=1e-4)
    # The model's own difference is that, but for the scale.
    assert (expected - (effects.clean - effects.corrupted)).abs().max() > 0.01
    defined = effects.direct_total * (effects.clean - effects.corrupted)
    torch.testing.assert_close(defined, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("outputs", ["added", "before_norm"])
def test_the_last_mlp_has_a_direct_effect_alone(anatomy: Anatomy, outputs: Outputs) -> None:
    """Nothing follows it but the norm, so that the whole effect differs by the scale alone."""
    effects = component_effects(anatomy, PROMPTS, PAIRS, PatchingRule("fast", outputs, 4))
    values, _ = capture_components(anatomy, PROMPTS, batch_size=4)
    streams = last_streams(anatomy)
    added = values.outputs[:, -1, 1]
    patched = streams[CORRUPTED] + added[CLEAN] - added[CORRUPTED]
    logits = anatomy.logits(patched)
    torch.testing.assert_close(effects.patched[:, -1, 1], of_labels(logits), rtol=1e-4, atol=1e-4)
    own, held = (scale_of(anatomy, part) for part in (patched, streams[CORRUPTED]))
    expected = of_labels(with_scale(anatomy, logits, own, held)) - effects.corrupted
    direct = effects.direct.components[:, -1, 1]
    torch.testing.assert_close(direct, expected, rtol=1e-4, atol=1e-4)
    assert direct.abs().max() > 0.01


def test_both_modes_agree_on_every_component(anatomy: Anatomy) -> None:
    fast, reference = (
        component_effects(anatomy, PROMPTS, PAIRS, PatchingRule(mode, "added", 4))
        for mode in ("fast", "reference")
    )
    torch.testing.assert_close(
        fast.direct.components, reference.direct.components, rtol=1e-4, atol=1e-4
    )


def test_formula_by_hand() -> None:
    anatomy = tiny_classifier("llama")
    effects = component_effects(anatomy, PROMPTS, PAIRS, PatchingRule("fast", "added", 4))
    values, _ = capture_components(anatomy, PROMPTS, batch_size=4)
    streams = last_streams(anatomy)
    norm, head = anatomy.final_norm, anatomy.head
    change = values.outputs[CLEAN[1], 2, 0] - values.outputs[CORRUPTED[1], 2, 0]
    scale = (streams[CORRUPTED[1]].square().mean() + 1e-6).sqrt()
    expected = head.weight[LABELS[1]] @ (norm.weight * change / scale)
    torch.testing.assert_close(effects.direct.components[1, 2, 0], expected, rtol=1e-4, atol=1e-5)


def test_a_stream_that_components_do_not_add_up_to_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    anatomy = tiny_classifier("llama")
    original = FrozenNorm.logits
    monkeypatch.setattr(FrozenNorm, "logits", lambda *given: original(*given) + 0.1)
    with pytest.raises(RuntimeError, match="embedding give logits that are off by"):
        component_effects(anatomy, PROMPTS, PAIRS, PatchingRule("fast", "added", 4))
