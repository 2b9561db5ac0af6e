"""What the benchmark of extraction compares, and the random models and contexts that it uses."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from glossogenesis.corpora.contexts import CorpusHeader, TensorBlock, write_tokenised
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.residuals import hook_name, residual_windows
from glossogenesis.storage.activations.cache import CacheDescription
from glossogenesis.storage.activations.writer import CacheWriter
from glossogenesis.storage.provenance import Provenance

VOCABULARY = 16_000
PROVENANCE = Provenance("benchmark", "benchmark", settings={}, inputs={}, code="")


@dataclass(frozen=True)
class Task:
    """One model, the contexts that it reads, and what is done with them."""

    anatomy: Anatomy
    corpus: TokenisedCorpus
    folder: Path
    batch_size: int
    window: int

    @torch.inference_mode()
    def plain(self) -> None:
        """The decoder's forward pass; what it gives is thrown away."""
        for token_ids in self.batches():
            self.anatomy.base(input_ids=token_ids.to(self.anatomy.device), use_cache=False)
        if self.anatomy.device.type == "cuda":
            torch.cuda.synchronize()

    def ours(self) -> None:
        """Write the caches of all layers."""
        layers = range(self.anatomy.n_layers)
        descriptions = {layer: self._description(layer) for layer in layers}
        with CacheWriter(self.folder, descriptions, dict.fromkeys(layers, PROVENANCE)) as writer:
            for window in residual_windows(
                self.anatomy,
                self.corpus,
                "train",
                layers,
                window=self.window,
                seed=0,
                batch_size=self.batch_size,
                dtype="bfloat16",
                not_finite="stop",
            ):
                rows = {layer: window.rows_of(layer) for layer in layers}
                writer.add("train", window.number, rows, window.dropped_rows)
            writer.finish()

    def batches(self) -> Iterator[Tensor]:
        """Token ids `[context, position]` of each forward pass."""
        for block in self.corpus.blocks("train", self.batch_size):
            yield block.token_ids.long()

    def _description(self, layer: int) -> CacheDescription:
        return CacheDescription(
            model="random",
            checkpoint="random",
            corpus="random",
            layer=layer,
            hook=hook_name(self.anatomy, layer),
            d_model=self.anatomy.d_model,
            dtype="bfloat16",
            languages=self.corpus.languages,
            context=self.corpus.context,
            window=self.window,
            source="",
            revision=None,
            tokenizer_digest="",
        )


class SaeLens:
    """SAELens' activation store over the same model and contexts, all layers from one pass."""

    def __init__(self, task: Task) -> None:
        from datasets import Dataset
        from sae_lens.load_model import HookedProxyLM

        self._task = task
        self._names = [hook_name(task.anatomy, layer) for layer in range(task.anatomy.n_layers)]
        # A copy, since the hooks that SAELens leaves in a model would slow the others down.
        model = copy.deepcopy(task.anatomy.model)
        self._model = HookedProxyLM(model, None, hook_names=self._names)
        batches = list(task.batches())
        # One batch more, since at the end of its data the store begins again.
        self._dataset = Dataset.from_dict({"tokens": torch.cat([*batches, batches[-1]]).tolist()})

    def draw_all(self) -> None:
        """Draw mixed batches until every context has gone through the model."""
        from sae_lens.training.activations_store import ActivationsStore

        task = self._task
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store = ActivationsStore.from_config_multi_hook(
                self._model,
                dataset=self._dataset,
                hook_names=self._names,
                hook_d_ins=dict.fromkeys(self._names, task.anatomy.d_model),
                streaming=False,
                context_size=task.corpus.context,
                # In units of contexts.
                n_batches_in_buffer=task.window // task.corpus.context,
                total_training_tokens=0,
                store_batch_size_prompts=task.batch_size,
                train_batch_size_tokens=min(4096, task.window),
                prepend_bos=False,
                device=task.anatomy.device,
                dtype="float32",
            )
            loader = store.get_multi_hook_data_loader()
            while store.n_dataset_processed < task.corpus.facts("train").contexts - 1:
                next(loader)
        if task.anatomy.device.type == "cuda":
            torch.cuda.synchronize()


def has_sae_lens() -> bool:
    """Whether SAELens can be measured."""
    return importlib.util.find_spec("sae_lens") is not None


def random_llama(hidden: int, layers: int, context: int, *, device: str, dtype: str) -> Anatomy:
    """A Llama with random weights, heads of 64 and a gated MLP of 11/4 of the width."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        max_position_embeddings=context,
    )
    model = LlamaForCausalLM(config).to(device, getattr(torch, dtype))
    return Anatomy.of(model.eval().requires_grad_(False))


def random_corpus(folder: Path, contexts: int, context: int) -> TokenisedCorpus:
    """Packed contexts of random tokens, every token kept."""
    generator = np.random.default_rng(0)
    shape = (contexts, context)
    columns = np.broadcast_to(np.arange(context), shape)
    block: TensorBlock = {
        "token_ids": generator.integers(3, VOCABULARY, shape),
        "documents": np.broadcast_to(np.arange(contexts)[:, None], shape),
        "positions": columns,
        "languages": np.zeros(shape),
        "token_languages": np.zeros(shape),
        "kept": columns >= 0,
    }
    header = CorpusHeader(
        corpus="random",
        languages=("en",),
        known_by_script=("en",),
        context=context,
        fill="packed",
        drop_first=False,
        tokenizer_digest="",
        pad_id=0,
        end_id=None,
        sources={},
    )
    return write_tokenised(folder, header, {"train": [block]}, [], PROVENANCE)
