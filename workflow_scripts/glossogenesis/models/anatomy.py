"""One vocabulary over the decoder architectures of transformers.

Everything that captures, patches or measures a model names its parts through `Anatomy`, so that no
other module knows how an architecture calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from glossogenesis.exceptions import StudyError

if TYPE_CHECKING:
    import torch
    from torch import nn

COMPONENTS = ("attention", "mlp")
"""What a block adds to the residual stream, in the order of every `component` axis."""


@dataclass(frozen=True)
class _Names:
    """Where an architecture keeps its parts, as dotted names."""

    embedding: str
    blocks: str
    attention_output: str
    mlp_output: str
    final_norm: str
    base: str = "model"
    before_norm: tuple[str, str] | None = None
    """Attention and MLP outputs before a norm that the two above are taken after."""


_LLAMA = _Names("embed_tokens", "layers", "self_attn.o_proj", "mlp.down_proj", "norm")
# These normalise what a sublayer gives before they add it to the residual stream.
_POST_NORM = _Names(
    "embed_tokens",
    "layers",
    "post_attention_layernorm",
    "post_feedforward_layernorm",
    "norm",
    before_norm=("self_attn.o_proj", "mlp.down_proj"),
)
_NAMES = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _POST_NORM,
    "gemma3_text": _POST_NORM,
    "olmo2": _POST_NORM,
    "gpt_neox": _Names(
        "embed_in",
        "layers",
        "attention.dense",
        "mlp.dense_4h_to_h",
        "final_layer_norm",
        base="gpt_neox",
    ),
    "bloom": _Names(
        "word_embeddings",
        "h",
        "self_attention.dense",
        "mlp.dense_4h_to_h",
        "ln_f",
        base="transformer",
    ),
    "gpt2": _Names("wte", "h", "attn.c_proj", "mlp.c_proj", "ln_f", base="transformer"),
}
_HEADS = ("lm_head", "embed_out", "score")

SUPPORTED_ARCHITECTURES = tuple(_NAMES)
"""The `model_type`s of transformers that have an anatomy."""


@dataclass(frozen=True)
class Anatomy:
    """The parts of one model under the same names for every architecture.

    In every architecture here but BLOOM with `apply_residual_connection_post_layernorm`, a block
    adds two things to the residual stream: the output of its `attention_outputs` module and that of
    its `mlp_outputs` module, both tensors `[batch, position, d_model]`.
    """

    model: nn.Module
    """The whole model, with its head where it has one."""
    base: nn.Module
    """The decoder without its head: token ids in, last hidden state out, after the final norm."""
    architecture: str
    """`model_type` of transformers, one of `SUPPORTED_ARCHITECTURES`."""
    embedding: nn.Module
    blocks: Sequence[nn.Module]
    attention_outputs: Sequence[nn.Module]
    mlp_outputs: Sequence[nn.Module]
    attention_before_norm: Sequence[nn.Module]
    """What attention gives before the norm through which some architectures add it; in the others,
    `attention_outputs`."""
    mlp_before_norm: Sequence[nn.Module]
    """The same of the MLP."""
    final_norm: nn.Module
    head: nn.Module | None
    """Language-modelling or classification head; None where the model has none."""
    n_layers: int
    d_model: int
    n_heads: int

    @classmethod
    def of(cls, model: nn.Module) -> Anatomy:
        """Name the parts of a transformers model.

        Raises:
            StudyError: the architecture is not supported, or lacks a part that it should have.
        """
        config: Any = model.config
        names = _NAMES[require_supported(config.model_type)]
        base = getattr(model, names.base, model)
        blocks = list(_part(base, names.blocks))
        attention_output, mlp_output = names.attention_output, names.mlp_output
        attention_before_norm, mlp_before_norm = names.before_norm or (attention_output, mlp_output)
        heads = [getattr(model, name) for name in _HEADS if hasattr(model, name)]
        return cls(
            model=model,
            base=base,
            architecture=config.model_type,
            embedding=_part(base, names.embedding),
            blocks=tuple(blocks),
            attention_outputs=tuple(_part(block, attention_output) for block in blocks),
            mlp_outputs=tuple(_part(block, mlp_output) for block in blocks),
            attention_before_norm=tuple(_part(block, attention_before_norm) for block in blocks),
            mlp_before_norm=tuple(_part(block, mlp_before_norm) for block in blocks),
            final_norm=_part(base, names.final_norm),
            head=heads[0] if heads else None,
            n_layers=len(blocks),
            d_model=config.hidden_size,
            n_heads=config.num_attention_heads,
        )

    @property
    def config(self) -> Any:
        """The decoder's transformers configuration."""
        return self.base.config

    @property
    def device(self) -> torch.device:
        """Where the embedding's weights are."""
        return next(self.embedding.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the embedding's weights."""
        return next(self.embedding.parameters()).dtype

    @property
    def takes_position_ids(self) -> bool:
        """Whether positions are an input; BLOOM derives them from the attention mask."""
        return self.architecture != "bloom"

    def logits(self, residual: torch.Tensor) -> torch.Tensor:
        """Logits `[..., vocabulary or label]` of the last block's output `[..., d_model]`.

        This is the logit lens when `residual` comes from an earlier layer.

        Raises:
            StudyError: the model has no head.
        """
        return self.logits_of_normed(self.final_norm(residual))

    def logits_of_normed(self, normed: torch.Tensor) -> torch.Tensor:
        """Logits `[..., vocabulary or label]` of what the final norm gave, `[..., d_model]`.

        Gemma 2's soft cap on the logits of a language model is applied.

        Raises:
            StudyError: the model has no head.
        """
        if self.head is None:
            raise StudyError(
                f"this {self.architecture} model has no head; load a checkpoint saved with one"
            )
        logits: torch.Tensor = self.head(normed)
        cap = getattr(self.config, "final_logit_softcapping", None)
        # Classification heads are not capped.
        if cap is None or hasattr(self.model, "score"):
            return logits
        capped: torch.Tensor = (logits / cap).tanh() * cap
        return capped


def require_supported(architecture: str) -> str:
    """Return `architecture`, a `model_type` of transformers.

    Raises:
        StudyError: it has no anatomy; the message names those that have.
    """
    if architecture not in _NAMES:
        raise StudyError(
            f"architecture {architecture!r} is not supported; supported are "
            f"{', '.join(SUPPORTED_ARCHITECTURES)}"
        )
    return architecture


def _part(root: nn.Module, dotted: str) -> Any:
    try:
        return reduce(getattr, dotted.split("."), root)
    except AttributeError:
        raise StudyError(
            f"{type(root).__name__} has no part {dotted!r}; this version of transformers arranges "
            "the architecture differently: install the locked version"
        ) from None
