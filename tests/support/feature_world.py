"""Random text whose tokens have random activations, and what fires on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.features.collection import FeatureRules, Features, collect_features
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.storage.activations.cache import ActivationCache
from glossogenesis.study.features import LanguageRule, MonosemanticityRule, Sensitivity
from support.planted_features import (
    SCRIPTS,
    VOCABULARY,
    random_contexts,
    write_cache,
    write_corpus,
)

N_LATENTS, K = 8, 2
DEAD_LATENT = 7


def rules(**changes: Any) -> FeatureRules:
    return FeatureRules(
        language=LanguageRule(**changes.get("language", {})),
        monosemanticity=MonosemanticityRule(**changes.get("monosemanticity", {})),
        sensitivity=Sensitivity(**changes.get("sensitivity", {})),
        scripts=changes.get("scripts", SCRIPTS),
        seed=changes.get("seed", 0),
    )


def embedding_of(name: str) -> torch.Tensor:
    seed = {"input": 1, "unembedding": 2}[name]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(VOCABULARY), 3, generator=generator)


class World:
    """Random contexts whose tokens have random activations; one latent never fires."""

    def __init__(self, folder: Path, n_contexts: int = 40, seed: int = 0) -> None:
        self.contexts = random_contexts(n_contexts, 9, seed)
        self.corpus: TokenisedCorpus = write_corpus(folder / "corpus", self.contexts)
        tokens = sum(map(len, self.contexts))
        generator = torch.Generator().manual_seed(seed)
        self.activations = torch.randn(tokens, N_LATENTS, generator=generator)
        self.activations[:, DEAD_LATENT] = -1.0
        # Two tokens of a sequence are equally strong: the first is the example's.
        self.activations[1, 3] = self.activations[0, 3] = 9.0
        self.cache: ActivationCache = write_cache(folder / "cache", self.corpus, self.activations)

    def collect(self, folder: Path, sae: SparseAutoencoder, **changes: Any) -> Features:
        return collect_features(
            sae, self.cache, self.corpus, rules(**changes), embedding_of, scratch=folder
        )

    def fired(self, chosen: Callable[[list[float]], list[int]]) -> list[dict[str, Any]]:
        """Everything that fires, by plain loops; `chosen` says which latents of a token do."""
        found = []
        row = 0
        for context, ids in enumerate(self.contexts):
            for column, token in enumerate(ids):
                values = self.activations[row].tolist()
                found += [
                    {
                        "feature": latent,
                        "context": context,
                        "column": column,
                        "token_id": token,
                        "value": values[latent],
                    }
                    for latent in chosen(values)
                ]
                row += 1
        return found
