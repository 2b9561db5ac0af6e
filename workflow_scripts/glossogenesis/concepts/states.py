"""Source states: what a model holds of a concept at its word, in each language pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import torch
from torch import Tensor

from glossogenesis.exceptions import NotFiniteError, StudyError
from glossogenesis.progress import progress
from glossogenesis.storage.provenance import Provenance

Capture = Callable[[Sequence[Sequence[int]], Sequence[int], Callable[[int], object]], Tensor]
"""Token ids and positions of prompts to their residual stream `[prompt, layer, d_model]`; the last
argument is called with how many prompts are done."""


@dataclass(frozen=True)
class SourceStates:
    """States of the source concepts in each source language pair."""

    concepts: list[str]
    """The order of the tensors' first axis."""
    by_pair: dict[str, Tensor]
    """`es-ru` to `[concept, layer, d_model]` in the model's dtype."""

    def mean_patch(self, pairs: Sequence[Sequence[str]], concepts: Sequence[str]) -> Tensor:
        """Mean over language pairs of the states of given concepts.

        Returns `[concept, layer, d_model]` in the states' dtype; the mean is taken in float32.
        """
        place = {concept: index for index, concept in enumerate(self.concepts)}
        rows = torch.tensor([place[concept] for concept in concepts])
        stacked = torch.stack([self.by_pair["-".join(pair)][rows] for pair in pairs])
        return stacked.float().mean(dim=0).to(stacked.dtype)


def extract_states(prompts: pl.DataFrame, capture: Capture) -> SourceStates:
    """Capture the states of all source prompts of a prompt table, one language pair at a time."""
    sources = prompts.filter(pl.col("role") == "source")
    groups = sources.partition_by(["input_language", "output_language"], maintain_order=True)
    concepts = groups[0]["concept"].to_list()
    by_pair: dict[str, Tensor] = {}
    with progress(total=sources.height, label="source states", unit="prompt") as bar:
        for group in groups:
            if group["concept"].to_list() != concepts:
                raise StudyError("the prompt table's source pairs differ in concepts; remake it")
            name = f"{group['input_language'][0]}-{group['output_language'][0]}"
            token_ids, positions = group["token_ids"].to_list(), group["position"].to_list()
            by_pair[name] = capture(token_ids, positions, bar.update)
    return SourceStates(concepts, by_pair)


def states_from_file(tensors: Mapping[str, Tensor], provenance: Provenance) -> SourceStates:
    """Put together what `extract_states.py` wrote."""
    return SourceStates(list(provenance.facts["concepts"]), dict(tensors))


def check_finite_states(by_pair: Mapping[str, Tensor], described_as: str, dtype: str) -> None:
    """NotFiniteError where states `[concept, layer, d_model]` are not finite; names the layer."""
    bad = [~states.isfinite().all(dim=2).all(dim=0) for states in by_pair.values()]
    layers = [int(of_pair.nonzero()[0, 0]) for of_pair in bad if bool(of_pair.any())]
    if layers:
        raise NotFiniteError.of_model(described_as, f"the states of layer {min(layers)}", dtype)
