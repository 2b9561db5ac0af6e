"""Random-weight models of every supported architecture, small enough to run in milliseconds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from glossogenesis.models.anatomy import Anatomy

VOCABULARY = 61
D_MODEL = 32

_SHARED: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": D_MODEL,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # A tied head would make random models repeat the last token.
    "tie_word_embeddings": False,
}
_GATED: dict[str, Any] = {
    **_SHARED,
    "intermediate_size": 48,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
# Windows are shorter than the test prompts, and layers alternate where the architecture lets them.
_ALTERNATING: dict[str, Any] = {
    "sliding_window": 7,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_SETTINGS: dict[str, dict[str, Any]] = {
    "llama": _GATED,
    "mistral": _GATED | {"sliding_window": 7},
    "qwen2": _GATED | {"use_sliding_window": True} | _ALTERNATING,
    "qwen3": _GATED | {"head_dim": 16},
    "gemma2": _GATED
    | _ALTERNATING
    | {"head_dim": 8, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 3.0}
    | {"final_logit_softcapping": 6.0},
    "gemma3_text": _GATED | _ALTERNATING | {"head_dim": 8, "query_pre_attn_scalar": 8},
    "olmo2": _GATED,
    "gpt_neox": _SHARED
    | {"intermediate_size": 48, "rotary_pct": 0.5, "max_position_embeddings": 128},
    "bloom": _SHARED | {"num_attention_heads": 8},
    "gpt2": _SHARED | {"n_positions": 128, "scale_attn_by_inverse_layer_idx": True},
}
ARCHITECTURES = tuple(_SETTINGS)
UNLIKE = ("gemma2", "gpt_neox")
"""Two that have little in common: windows and normed outputs; attention and MLP side by side."""
EACH_ARCHITECTURE = [
    pytest.param(name, marks=() if name in UNLIKE else pytest.mark.slow) for name in ARCHITECTURES
]


def tiny_config(architecture: str, **overrides: Any) -> Any:
    """The configuration of a tiny model of one architecture."""
    return CONFIG_MAPPING[architecture](**(_SETTINGS[architecture] | overrides))


def tiny_model(architecture: str, *, seed: int = 0, **overrides: Any) -> nn.Module:
    """A tiny float32 model whose logits differ clearly; no weight keeps its initial value."""
    model = AutoModelForCausalLM.from_config(tiny_config(architecture, **overrides))
    return with_random_weights(model, seed=seed)


def with_random_weights(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Draw every weight of a model again, so that its logits differ clearly."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "embed" in name or name.endswith(("wte.weight", "wpe.weight")):
                weight.copy_(noise)
            elif weight.ndim == 2:
                weight.copy_(1.5 * noise / weight.shape[1] ** 0.5)
            else:
                weight.add_(0.2 * noise)
    return model.eval().requires_grad_(False)


def tiny_anatomy(architecture: str, *, seed: int = 0, **overrides: Any) -> Anatomy:
    """The anatomy of `tiny_model`."""
    return Anatomy.of(tiny_model(architecture, seed=seed, **overrides))


def random_tokens(lengths: list[int], *, seed: int = 0) -> list[list[int]]:
    """One random prompt a length, free of special tokens."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in lengths
    ]
