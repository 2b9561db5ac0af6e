"""The anatomy of each architecture against what transformers itself reports."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, T5Config, T5Model

from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import SUPPORTED_ARCHITECTURES, Anatomy
from support.tiny_models import (
    ARCHITECTURES,
    D_MODEL,
    EACH_ARCHITECTURE,
    random_tokens,
    tiny_anatomy,
    tiny_config,
)


def _record(modules: tuple[nn.Module, ...], into: list[Tensor]) -> list[Any]:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        into.append(output if isinstance(output, Tensor) else output[0])

    return [module.register_forward_hook(keep) for module in modules]


@pytest.fixture(params=EACH_ARCHITECTURE)
def anatomy(request: pytest.FixtureRequest) -> Anatomy:
    return tiny_anatomy(request.param)


def test_every_supported_architecture_is_tested() -> None:
    assert set(ARCHITECTURES) == set(SUPPORTED_ARCHITECTURES)


def test_layers_are_hidden_states(anatomy: Anatomy) -> None:
    layers: list[Tensor] = []
    _record(tuple(anatomy.blocks), layers)
    ids = torch.tensor(random_tokens([13, 13]))
    result = anatomy.model(ids, output_hidden_states=True)

    assert len(layers) == anatomy.n_layers == 4
    assert layers[0].shape[-1] == anatomy.d_model == D_MODEL
    for layer in range(anatomy.n_layers - 1):
        torch.testing.assert_close(layers[layer], result.hidden_states[layer + 1])
    torch.testing.assert_close(anatomy.final_norm(layers[-1]), result.hidden_states[-1])
    torch.testing.assert_close(anatomy.logits(layers[-1]), result.logits)
    torch.testing.assert_close(anatomy.base(ids).last_hidden_state, anatomy.final_norm(layers[-1]))


def test_block_adds_attention_and_mlp_outputs(anatomy: Anatomy) -> None:
    layers: list[Tensor] = []
    attention: list[Tensor] = []
    mlp: list[Tensor] = []
    _record(tuple(anatomy.blocks), layers)
    _record(tuple(anatomy.attention_outputs), attention)
    _record(tuple(anatomy.mlp_outputs), mlp)
    anatomy.model(torch.tensor(random_tokens([9])))
    for layer in range(1, anatomy.n_layers):
        torch.testing.assert_close(
            layers[layer], layers[layer - 1] + attention[layer] + mlp[layer], rtol=1e-5, atol=1e-5
        )


def test_outputs_before_norm(anatomy: Anatomy) -> None:
    """The architectures that normalise outputs before adding them have them apart."""
    before = (*anatomy.attention_before_norm, *anatomy.mlp_before_norm)
    added = (*anatomy.attention_outputs, *anatomy.mlp_outputs)
    if anatomy.architecture not in ("gemma2", "gemma3_text", "olmo2"):
        assert before == added
        return
    given: list[Tensor] = []
    normed: list[Tensor] = []
    _record(before, given)
    _record(added, normed)
    anatomy.model(torch.tensor(random_tokens([9])))
    # Recorded as they ran: attention, then MLP, block after block.
    norms = [norm for pair in zip(added[:4], added[4:], strict=True) for norm in pair]
    for norm, output, result in zip(norms, list(given), list(normed), strict=True):
        torch.testing.assert_close(norm(output), result)


def test_embedding_takes_token_ids(anatomy: Anatomy) -> None:
    assert anatomy.embedding is anatomy.model.get_input_embeddings()
    assert anatomy.n_heads in (4, 8)


def test_sequence_classifier() -> None:
    model = AutoModelForSequenceClassification.from_config(tiny_config("gemma2", num_labels=3))
    anatomy = Anatomy.of(model.eval())
    layers: list[Tensor] = []
    _record(tuple(anatomy.blocks), layers)
    expected = model(torch.tensor(random_tokens([9]))).logits
    torch.testing.assert_close(anatomy.logits(layers[-1])[:, -1], expected)


def test_base_model_has_no_head(anatomy: Anatomy) -> None:
    bare = Anatomy.of(anatomy.base)
    assert bare.n_layers == anatomy.n_layers
    with pytest.raises(StudyError, match="no head"):
        bare.logits(torch.zeros(1, D_MODEL))


def test_unsupported_architecture() -> None:
    config = T5Config(vocab_size=8, d_model=8, d_ff=8, num_layers=1, num_heads=1, d_kv=8)
    with pytest.raises(StudyError, match="'t5' is not supported; supported are llama, mistral"):
        Anatomy.of(T5Model(config))
