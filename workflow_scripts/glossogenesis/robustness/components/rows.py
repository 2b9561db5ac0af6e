"""What component patching is asked: which outputs of which components are replaced by what.

A component is the attention or the MLP of one block; its output is what it adds to the residual
stream. A row is one run of one prompt in which the outputs of some components are replaced by those
of a source: another prompt (patching), a mean or zeros (ablation). What is read off is the logits
of a classifier at the prompt's last token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import COMPONENTS, Anatomy

if TYPE_CHECKING:
    from torch import nn

Mode = Literal["fast", "reference"]
Outputs = Literal["added", "before_norm"]
"""An output is what is added to the residual stream, or what comes before the norm through which
Gemma 2, Gemma 3 and OLMo 2 add it; elsewhere both are the same."""
Where = Literal["last", "all"]
"""Whether outputs are replaced at a prompt's last position or at all of them."""
OnBatch = Callable[[int], object]
"""Called after each batch with how many rows were finished in it."""


@dataclass(frozen=True)
class ComponentRows:
    """Runs of prompts, each with its own replacements."""

    prompts: Tensor
    """`[row]`, int64: index of the prompt that runs."""
    sources: Tensor
    """`[row]`, int64: index of the source that replacements are taken from."""
    replaced: Tensor
    """`[row, layer, component]`, bool: outputs that are replaced."""
    embedding: Tensor
    """`[row]`, bool: whether what enters block 0 is replaced too."""

    def __post_init__(self) -> None:
        n_rows = len(self.prompts)
        if {len(self.sources), len(self.replaced), len(self.embedding)} != {n_rows}:
            raise ValueError(
                f"{n_rows} prompts, {len(self.sources)} sources, {len(self.replaced)} rows of "
                f"`replaced` and {len(self.embedding)} of `embedding`: there must be as many"
            )
        if self.replaced.ndim != 3 or self.replaced.shape[2] != len(COMPONENTS):
            raise ValueError(f"`replaced` is {tuple(self.replaced.shape)}, not [row, layer, 2]")

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Sequence[int]) -> ComponentRows:
        """Some of the rows, by index, in the given order."""
        index = torch.tensor(rows, dtype=torch.int64)
        return ComponentRows(
            self.prompts[index], self.sources[index], self.replaced[index], self.embedding[index]
        )

    def joins(self) -> list[int]:
        """The block from which each row differs from its unpatched prompt.

        The number of blocks stands for rows in which nothing is replaced.
        """
        anywhere = torch.cat([self.replaced.any(dim=2), torch.ones(len(self), 1) > 0], dim=1)
        first = anywhere.int().argmax(dim=1)
        return first.masked_fill(self.embedding, 0).tolist()


@dataclass(frozen=True)
class ComponentValues:
    """What is put in place: outputs of components at the last position of prompts, or means."""

    outputs: Tensor
    """`[source, layer, component, d_model]`"""
    embeddings: Tensor
    """`[source, d_model]`: what enters block 0."""

    @classmethod
    def empty(cls, anatomy: Anatomy, n_sources: int) -> ComponentValues:
        """Values to be filled in, on the CPU in the model's dtype."""
        shape = (n_sources, anatomy.n_layers, len(COMPONENTS), anatomy.d_model)
        return cls(
            outputs=torch.empty(shape, dtype=anatomy.dtype),
            embeddings=torch.empty(n_sources, anatomy.d_model, dtype=anatomy.dtype),
        )

    def put(self, places: Sequence[int], outputs: Tensor, embeddings: Tensor) -> None:
        """Fill in some sources, `[source, ...]`, from any device."""
        self.outputs[places] = outputs.cpu()
        self.embeddings[places] = embeddings.cpu()

    def of(self, sources: Tensor, like: Tensor) -> tuple[ComponentValues, Tensor]:
        """The values of some sources, each once, beside the model; and the place of each source.

        Args:
            sources: `[row]`.
            like: decides dtype and device.
        """
        distinct, places = sources.unique(return_inverse=True)
        values = ComponentValues(
            self.outputs[distinct].to(like), self.embeddings[distinct].to(like)
        )
        return values, places


def component_modules(anatomy: Anatomy, outputs: Outputs) -> tuple[Sequence[nn.Module], ...]:
    """For each of `COMPONENTS`, the modules that give its outputs, layer by layer."""
    if outputs == "before_norm":
        return anatomy.attention_before_norm, anatomy.mlp_before_norm
    return anatomy.attention_outputs, anatomy.mlp_outputs


def check_prompts(anatomy: Anatomy, token_ids: Sequence[Sequence[int]]) -> None:
    """Check that each prompt's last token is the one that transformers classifies from.

    Raises:
        StudyError: a prompt is empty, or ends on the padding token, which transformers would skip.
    """
    pad_id = anatomy.config.pad_token_id
    for number, ids in enumerate(token_ids):
        if len(ids) == 0:
            raise StudyError(f"prompt {number} has no token; remove empty posts")
        if ids[-1] == pad_id:
            raise StudyError(
                f"prompt {number} ends on token {pad_id}, which is the classifier's padding token: "
                "it would be classified from an earlier one. Give the tokenizer a padding token "
                "that occurs in no post"
            )


def check_rows(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    rows: ComponentRows,
    values: ComponentValues,
) -> None:
    """Check rows against model, prompts and values.

    Raises:
        ValueError: a shape or an index does not fit.
        StudyError: see `check_prompts`.
    """
    expected = (anatomy.n_layers, len(COMPONENTS), anatomy.d_model)
    if tuple(values.outputs.shape[1:]) != expected or rows.replaced.shape[1] != anatomy.n_layers:
        raise ValueError(
            f"values {tuple(values.outputs.shape)} and replacements {tuple(rows.replaced.shape)} "
            f"for a model of {anatomy.n_layers} layers and width {anatomy.d_model}"
        )
    for name, index, count in (
        ("prompt", rows.prompts, len(token_ids)),
        ("source", rows.sources, len(values.outputs)),
    ):
        if len(index) and not (int(index.min()) >= 0 and int(index.max()) < count):
            raise ValueError(f"a row names a {name} that is not in 0..{count - 1}")
    check_prompts(anatomy, token_ids)
