"""Generation by two models: what it must equal where the answer is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from glossogenesis.corpora.control_tokens import AnswerTokens
from glossogenesis.injection.method import Method, Reading, Variant, change_of
from glossogenesis.injection.perplexity import LayerInjection, TwoModels
from glossogenesis.injection.translation import Decoding, Injected, PromptBatch
from glossogenesis.models.capture import block_output
from glossogenesis.sae.autoencoder import SparseAutoencoder
from support.tiny_models import D_MODEL, EACH_ARCHITECTURE, random_tokens, tiny_anatomy
from support.tiny_saes import perfect_sae, random_sae

LAYER, STEPS = 1, 6
PROMPTS = random_tokens([9, 5, 12, 7])


def ends(*stops: int, controls: tuple[int, ...] = ()) -> AnswerTokens:
    return AnswerTokens(None, frozenset(), frozenset(stops), frozenset(controls))


DECODING = Decoding(ends(controls=(0, 1)), STEPS, skip_first=True)
ADDED = Method()


def group(latents: Tensor) -> Variant:
    return Variant("en", "none", None, latents)


def generated(
    models: TwoModels,
    sae: SparseAutoencoder,
    variant: Variant | None,
    *,
    alpha: float = 1.0,
    method: Method = ADDED,
    decoding: Decoding = DECODING,
    prompts: list[list[int]] = PROMPTS,
) -> list[list[int]]:
    batch = PromptBatch(models, prompts, [LayerInjection(LAYER, sae, [])], method, decoding)
    injected = None if variant is None else Injected(LAYER, sae, variant, alpha)
    rows: list[list[int]] = batch.generate(injected).tolist()
    return rows


def two_models(architecture: str, **overrides: Any) -> TwoModels:
    return TwoModels(
        source=tiny_anatomy(architecture, seed=1, **overrides),
        target=tiny_anatomy(architecture, seed=0, **overrides),
    )


def by_full_passes(
    models: TwoModels, sae: SparseAutoencoder, variant: Variant, alpha: float, method: Method
) -> list[list[int]]:
    """Every prompt alone, without caches: the whole text again for each new token."""
    rows = []
    for prompt in PROMPTS:
        tokens = list(prompt)
        for _ in range(STEPS):
            tokens.append(_next_by_full_pass(models, sae, variant, alpha, method, tokens, prompt))
        rows.append(tokens[len(prompt) :])
    return rows


def _next_by_full_pass(
    models: TwoModels,
    sae: SparseAutoencoder,
    variant: Variant,
    alpha: float,
    method: Method,
    tokens: list[int],
    prompt: list[int],
) -> int:
    ids = torch.tensor([tokens])
    source: Any = models.source.model
    with torch.no_grad():
        held: list[Tensor] = []
        hook = models.source.blocks[LAYER].register_forward_hook(
            lambda module, inputs, output: held.append(block_output(output)[0])
        )
        source(ids)
        hook.remove()
        plain = [place for place, token in enumerate(tokens) if place and token not in (0, 1)]
        if method.positions == "last":
            plain = [place for place in plain if place >= len(prompt) - 1]

        def inject(module: Any, inputs: Any, output: Any) -> Any:
            states = block_output(output).clone()
            own = Reading.of(sae, states[0, plain])
            read = Reading.of(sae, held[0][plain])
            states[0, plain] += change_of(variant, alpha, read, own, method, sae.w_dec)
            return states if isinstance(output, Tensor) else (states, *output[1:])

        hook = models.target.blocks[LAYER].register_forward_hook(inject)
        target: Any = models.target.model
        logits = target(ids).logits[0, -1]
        hook.remove()
    return int(logits.argmax())


@pytest.mark.parametrize("architecture", EACH_ARCHITECTURE)
def test_without_injection_it_is_transformers_generate(architecture: str) -> None:
    models = two_models(architecture)
    target: Any = models.target.model
    expected = []
    for prompt in PROMPTS:
        whole = target.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=STEPS, eos_token_id=None
        )
        expected.append(whole[0, len(prompt) :].tolist())
    assert generated(models, random_sae(D_MODEL, 64), None) == expected


@pytest.mark.parametrize("architecture", EACH_ARCHITECTURE)
def test_caches_and_padding_change_nothing(architecture: str) -> None:
    models, sae = two_models(architecture), random_sae(D_MODEL, 64)
    variant = group(torch.arange(40))
    expected = by_full_passes(models, sae, variant, 1.5, Method())
    assert generated(models, sae, variant, alpha=1.5) == expected
    assert generated(models, sae, None) != expected


@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("mode", ["add", "replace"])
@pytest.mark.parametrize("scale", ["source", "target"])
def test_every_method_is_the_same_by_full_passes(positions: str, mode: str, scale: str) -> None:
    models, sae = two_models("llama"), random_sae(D_MODEL, 64, architecture="relu")
    variant, method = group(torch.arange(30)), Method(scale, mode, positions)
    expected = by_full_passes(models, sae, variant, 2.0, method)
    assert generated(models, sae, variant, alpha=2.0, method=method) == expected


def test_nothing_injected_is_no_injection() -> None:
    models, sae = two_models("llama"), random_sae(D_MODEL, 64)
    plain = generated(models, sae, None)
    assert generated(models, sae, group(torch.arange(0))) == plain
    assert generated(models, sae, group(torch.arange(64)), alpha=1e-9) == plain
    assert generated(models, sae, group(torch.arange(64)), alpha=3.0) != plain


def test_replacing_a_models_own_features_is_no_injection() -> None:
    anatomy = tiny_anatomy("llama")
    same = TwoModels(anatomy, anatomy)
    sae = perfect_sae(D_MODEL)
    plain = generated(same, sae, None)
    replaced = generated(same, sae, group(torch.arange(64)), method=Method(mode="replace"))
    assert replaced == plain


def test_replacing_everything_gives_the_sources_upper_states() -> None:
    """With a perfect autoencoder, the target's layers above only read the source's states."""
    models = two_models("llama")
    hybrid = tiny_anatomy("llama", seed=0)
    with torch.no_grad():
        hybrid.embedding.weight.copy_(models.source.embedding.weight)
        for layer in range(LAYER + 1):
            hybrid.blocks[layer].load_state_dict(models.source.blocks[layer].state_dict())
    expected = generated(TwoModels(hybrid, hybrid), perfect_sae(D_MODEL), None)
    every_token = Decoding(ends(), STEPS, skip_first=False)
    replaced = generated(
        models,
        perfect_sae(D_MODEL),
        group(torch.arange(2 * D_MODEL)),
        method=Method(mode="replace"),
        decoding=every_token,
    )
    assert replaced == expected


def test_an_answer_ends_at_a_stop_token() -> None:
    models, sae = two_models("llama"), random_sae(D_MODEL, 64)
    free = generated(models, sae, group(torch.arange(64)))
    stop = free[0][2]
    decoding = Decoding(ends(stop, controls=(0, 1)), STEPS, skip_first=True)
    stopped = generated(models, sae, group(torch.arange(64)), decoding=decoding)
    for row, whole in zip(stopped, free, strict=True):
        end = whole.index(stop) + 1 if stop in whole else STEPS
        assert row == whole[:end] + [-1] * (STEPS - end)


def test_special_tokens_are_left_alone() -> None:
    """A prompt of special tokens alone is changed nowhere, so its first answer stays."""
    models, sae = two_models("llama"), random_sae(D_MODEL, 64)
    special = [[1, 1, 0, 1]]
    every = group(torch.arange(64))
    assert (
        generated(models, sae, every, alpha=9.0, prompts=special)[0][0]
        == generated(models, sae, None, prompts=special)[0][0]
    )
    everywhere = Decoding(ends(), STEPS, skip_first=False)
    assert generated(
        models, sae, every, alpha=9.0, prompts=special, decoding=everywhere
    ) != generated(models, sae, None, prompts=special)


def test_a_batch_can_be_answered_again() -> None:
    models, sae = two_models("llama"), random_sae(D_MODEL, 64)
    batch = PromptBatch(models, PROMPTS, [LayerInjection(LAYER, sae, [])], Method(), DECODING)
    injected = Injected(LAYER, sae, group(torch.arange(64)), 1.0)
    first = batch.generate(injected)
    batch.generate(None)
    assert torch.equal(batch.generate(injected), first)
