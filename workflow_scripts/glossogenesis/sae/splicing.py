"""Continue a model's forward pass from a residual stream that stands in for a block's output.

The model's own forward pass runs, so masks, rotary tables and caps are those of its architecture;
only the blocks up to the spliced one give what they are told to instead of computing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import block_output, watched_blocks, with_block_output


@dataclass(frozen=True)
class CleanPass:
    """One forward pass of some contexts, and what its blocks gave."""

    inputs: Mapping[str, Tensor]
    """Keyword arguments of the model's forward pass."""
    normed: Tensor
    """`[context, position, d_model]`: after the last block and the final norm."""
    outputs: Mapping[int, Any]
    """What each wanted block returned, by layer: a tensor, or a tuple that starts with it."""

    def stream(self, layer: int) -> Tensor:
        """Residual stream after a wanted block, `[context, position, d_model]`."""
        return block_output(self.outputs[layer])


@torch.inference_mode()
def clean_pass(
    anatomy: Anatomy, token_ids: Tensor, mask: Tensor, layers: Sequence[int]
) -> CleanPass:
    """Run contexts, and keep the outputs of some blocks.

    Args:
        anatomy: the model.
        token_ids: `[context, position]`, int64, padded on the right.
        mask: `[context, position]`, bool: False at padding.
        layers: whose outputs to keep.
    """
    outputs: dict[int, Any] = {}

    def keep(layer: int, output: Any) -> None:
        # A model may go on to change the tensor in place.
        outputs[layer] = with_block_output(output, block_output(output).clone())

    inputs = {"input_ids": token_ids.to(anatomy.device)}
    if not bool(mask.all()):
        inputs["attention_mask"] = mask.long().to(anatomy.device)
    with watched_blocks(anatomy, layers, keep):
        normed: Tensor = anatomy.base(**inputs, use_cache=False).last_hidden_state
    return CleanPass(inputs, normed, outputs)


@torch.inference_mode()
def spliced_pass(anatomy: Anatomy, clean: CleanPass, layer: int, stream: Tensor) -> Tensor:
    """Run the blocks after `layer` on another output of it; return what the final norm gives.

    Args:
        anatomy: the model.
        clean: the forward pass of the same contexts, in which `layer` was wanted.
        layer: the block whose output is replaced; neither it nor those before it compute.
        stream: its output instead, `[context, position, d_model]`, in the model's dtype.

    Returns:
        `[context, position, d_model]`, after the final norm.
    """
    passed_over = anatomy.blocks[: layer + 1]
    with _giving(passed_over, with_block_output(clean.outputs[layer], stream)):
        normed: Tensor = anatomy.base(**clean.inputs, use_cache=False).last_hidden_state
    return normed


@contextmanager
def _giving(blocks: Sequence[nn.Module], output: Any) -> Iterator[None]:
    """Within the context, blocks return `output` without computing.

    The forward method of each is shadowed by an attribute of the instance, so that whatever else
    the model reads from its blocks stays.
    """

    def forward(*arguments: Any, **keywords: Any) -> Any:
        return output

    try:
        for block in blocks:
            vars(block)["forward"] = forward
        yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)
