"""The reference engine against invariants, and both engines on a model whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from glossogenesis.concepts.request import PatchPrompt, PatchRequest, pad_token_ids
from glossogenesis.concepts.translation import Mode, run_patching
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import residual_at
from support.patch_requests import assert_equal_runs, request_for
from support.tiny_models import EACH_ARCHITECTURE, tiny_anatomy, tiny_model

N_WORDS = 12


@pytest.fixture(params=EACH_ARCHITECTURE)
def anatomy(request: pytest.FixtureRequest) -> Anatomy:
    return tiny_anatomy(request.param)


def test_batch_size_does_not_matter(anatomy: Anatomy) -> None:
    request = request_for(anatomy, start_layers=(0, 2), generate_at=(2,))
    one = run_patching(anatomy, request, batch_size=1, mode="reference")
    many = run_patching(anatomy, request, batch_size=50, mode="reference")
    assert_equal_runs(one, many)


def test_unpatched_is_the_plain_model(anatomy: Anatomy) -> None:
    request = request_for(anatomy, start_layers=(0,), generate_at=(0,), include_self=True)
    run = run_patching(anatomy, request, batch_size=50, mode="reference")
    for index, prompt in enumerate(request.prompts):
        ids = list(prompt.token_ids)
        first = anatomy.model(torch.tensor([ids])).logits[0, -1].log_softmax(dim=-1)
        wanted = request.token_ids_of_interest[index]
        expected = first[wanted].masked_fill(wanted < 0, float("-inf"))
        torch.testing.assert_close(run.unpatched_log_probabilities[index], expected)
        for _ in range(request.max_new_tokens):
            ids.append(int(anatomy.model(torch.tensor([ids])).logits[0, -1].argmax()))
        new = ids[len(prompt.token_ids) :]
        assert run.unpatched_generated[index].tolist() == new
        assert run.generated[-1, index, 0].tolist() == new


def test_last_layer_changes_nothing(anatomy: Anatomy) -> None:
    request = request_for(anatomy, start_layers=(3,), generate_at=(3,))
    run = run_patching(anatomy, request, batch_size=50, mode="reference")
    for setting in range(request.n_settings):
        torch.testing.assert_close(
            run.log_probabilities[setting, :, 0], run.unpatched_log_probabilities
        )
        assert torch.equal(run.generated[setting, :, 0], run.unpatched_generated)


def planted() -> Anatomy:
    """A GPT-2 whose first block does nothing and whose second answers with the word it has seen.

    Tokens below `N_WORDS` are words: their embedding is a mark in dimension 0 and a dimension of
    their own. The second block's attention looks for the mark and copies the word's dimension.
    """
    model = tiny_model("gpt2", num_hidden_layers=2, num_attention_heads=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.fill_(1.0 if ".ln_" in name and name.endswith("weight") else 0.0)
        width = model.config.hidden_size
        words = torch.arange(N_WORDS)
        model.transformer.wte.weight[words, 0] = 3.0
        model.transformer.wte.weight[words, 1 + words] = 3.0
        attention = model.transformer.h[1].attn
        attention.c_attn.bias[0] = 100.0
        attention.c_attn.weight[0, width] = 1.0
        attention.c_attn.weight[1 + words, 2 * width + 1 + words] = 1.0
        attention.c_proj.weight.copy_(torch.eye(width))
        model.lm_head.weight[words, 1 + words] = 5.0
    return Anatomy.of(model)


@pytest.mark.parametrize("mode", ["fast", "reference"])
def test_planted_model_answers_with_the_patched_word(mode: Mode) -> None:
    anatomy = planted()
    targets = [(40, 41, 42, word, 43, 44) for word in (0, 1, 2)]
    sources = [(50, 51, word, 52) for word in (7, 8, 9)]
    states = residual_at(anatomy, sources, [2, 2, 2], batch_size=3)
    request = PatchRequest(
        prompts=tuple(PatchPrompt(ids, 3) for ids in targets),
        patches=states[None],
        start_layers=(0, 1),
        token_ids_of_interest=pad_token_ids([[0, 7], [1, 8], [2, 9]]),
        generate_at=(0, 1),
        max_new_tokens=1,
    )
    run = run_patching(anatomy, request, batch_size=2, mode=mode)
    assert run.generated[0, :, 0, 0].tolist() == [7, 8, 9]
    assert run.generated[0, :, 1, 0].tolist() == [0, 1, 2]
    assert run.unpatched_generated[:, 0].tolist() == [0, 1, 2]
    assert (run.log_probabilities[0, :, 0, 1].exp() > 0.9).all()
    assert (run.log_probabilities[0, :, 1, 0].exp() > 0.9).all()


@pytest.mark.parametrize("mode", ["fast", "reference"])
def test_progress_counts_every_prompt(mode: Mode) -> None:
    anatomy = tiny_anatomy("llama")
    finished: list[int] = []
    run_patching(anatomy, request_for(anatomy), batch_size=2, mode=mode, on_batch=finished.append)
    assert sum(finished) == 5
    assert len(finished) > 1


def test_mean_over_one_is_that_one() -> None:
    anatomy = tiny_anatomy("llama")
    request = request_for(anatomy, include_self=False)
    mean = replace(request, patches=request.patches[:1].mean(dim=0, keepdim=True))
    whole = run_patching(anatomy, request, batch_size=8)
    single = run_patching(anatomy, mean, batch_size=8)
    torch.testing.assert_close(single.log_probabilities[0], whole.log_probabilities[0])


def test_requests_that_cannot_be_meant() -> None:
    anatomy = tiny_anatomy("llama")
    request = request_for(anatomy)
    with pytest.raises(ValueError, match="must ascend"):
        replace(request, start_layers=(2, 1))
    with pytest.raises(ValueError, match=r"must be in 0..3"):
        replace(request, start_layers=(4,), generate_at=())
    with pytest.raises(ValueError, match="among the start layers"):
        replace(request, start_layers=(0,))
    with pytest.raises(ValueError, match="patches for 5 prompts, but 1"):
        replace(request, prompts=request.prompts[:1])
    with pytest.raises(ValueError, match="one row per prompt"):
        replace(request, token_ids_of_interest=request.token_ids_of_interest[:1])
    with pytest.raises(ValueError, match="no setting"):
        replace(request, patches=request.patches[:0], include_self=False)
    with pytest.raises(ValueError, match="at least one token must follow"):
        PatchPrompt((4, 5, 6), 2)
    with pytest.raises(ValueError, match="for a model of 4 layers and width 32"):
        run_patching(anatomy, replace(request, patches=request.patches[..., :8]), batch_size=1)
