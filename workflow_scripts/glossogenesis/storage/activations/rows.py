"""Activations of one layer, token by token, with the ids that say which tokens they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

STORED_DTYPES: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float32": torch.float32}
"""Number formats of stored activations, by their names in a study."""

ID_DTYPES: dict[str, torch.dtype] = {
    "token_ids": torch.int32,
    "documents": torch.int32,
    "positions": torch.int32,
    "contexts": torch.int32,
    "columns": torch.int32,
    "languages": torch.uint8,
    "token_languages": torch.uint8,
}
"""The ids of a row and their number formats."""


def bytes_of_a_row(d_model: int, dtype: str) -> int:
    """Bytes that a token takes in the cache of one layer, ids included."""
    ids = sum(id_dtype.itemsize for id_dtype in ID_DTYPES.values())
    return d_model * STORED_DTYPES[dtype].itemsize + ids


@dataclass(frozen=True)
class ActivationRows:
    """The residual stream after one block at some tokens; every field has a row a token."""

    activations: Tensor
    """`[row, d_model]`, bfloat16 or float32."""
    token_ids: Tensor
    """`[row]`, int32: the token in the model's vocabulary."""
    documents: Tensor
    """`[row]`, int32: number of the document in its split."""
    positions: Tensor
    """`[row]`, int32: index of the token in its document."""
    contexts: Tensor
    """`[row]`, int32: number of the context in its split."""
    columns: Tensor
    """`[row]`, int32: position of the token in its context."""
    languages: Tensor
    """`[row]`, uint8: index of the document's language in the corpus's languages."""
    token_languages: Tensor
    """`[row]`, uint8: index of the language by the token's script, 255 for none."""

    @classmethod
    def of(cls, activations: Tensor, ids: Mapping[str, Tensor]) -> ActivationRows:
        """Put activations and ids, whose names are those of `ID_DTYPES`, together."""
        return cls(activations, **{name: ids[name] for name in ID_DTYPES})

    def __len__(self) -> int:
        return self.activations.shape[0]

    @property
    def ids(self) -> dict[str, Tensor]:
        """All fields but the activations, by name."""
        return {name: getattr(self, name) for name in ID_DTYPES}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All fields, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __getitem__(self, rows: Any) -> ActivationRows:
        return ActivationRows(**{name: tensor[rows] for name, tensor in self.tensors.items()})
