"""A checkpoint as a notebook uses it: capture its residual stream, patch a translation.

The same passes as in the workflow, on texts in place of tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from glossogenesis.concepts.request import PatchPrompt, PatchRequest, pad_token_ids
from glossogenesis.concepts.scoring import CLOSING_QUOTE, answer_of
from glossogenesis.concepts.translation import run_patching
from glossogenesis.corpora.control_tokens import AnswerTokens, Encode, text_encoder
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import residual_at
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.loading import load_model, load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class OpenCheckpoint:
    """A model of any supported architecture with its tokenizer, on one device."""

    model: nn.Module
    """Of transformers, in evaluation mode and without gradients."""
    tokenizer: PreTrainedTokenizerBase
    anatomy: Anatomy
    """The model's blocks, attention, MLPs, norms and head by names that all architectures share."""

    @cached_property
    def encode(self) -> Encode:
        """Turns a text into token ids, with the special tokens that open a prompt."""
        return text_encoder(self.tokenizer, add_special_tokens=True)

    @cached_property
    def _answers(self) -> AnswerTokens:
        """What ends an answer; the text of every token of the vocabulary is looked at."""
        return AnswerTokens.of(self.tokenizer, self.model, CLOSING_QUOTE)

    def residual_stream(
        self, texts: Sequence[str], *, layers: Sequence[int] | None = None, batch_size: int = 16
    ) -> Tensor:
        """Residual stream after blocks at the last token of each text.

        Args:
            texts: what the model reads.
            layers: layers counted from 0, in the order of the result; all where None.
            batch_size: texts in one forward pass; it does not change the result.

        Returns:
            `[text, layer, d_model]` on the CPU, in the model's dtype.
        """
        token_ids = [self.encode(text) for text in texts]
        last = [len(ids) - 1 for ids in token_ids]
        return residual_at(self.anatomy, token_ids, last, layers=layers, batch_size=batch_size)

    def patch_translation(
        self,
        sources: Sequence[str],
        target: str,
        rest: str,
        *,
        start_layers: Sequence[int] | None = None,
        max_new_tokens: int = 5,
    ) -> dict[int | None, str]:
        """What the model answers when another word's states stand in for those of the target's.

        The states are the mean over `sources`, each cut at the end of its query word, and overwrite
        those of the last token of `target` from a start layer to the last layer (Dumas et al. 2025,
        arXiv:2411.08745).

        Args:
            sources: prompts that end in the word whose concept is patched in.
            target: a prompt that ends in the word whose states are overwritten.
            rest: what follows that word, up to the open quote of the answer.
            start_layers: layers counted from 0; all where None.
            max_new_tokens: of an answer, at most.

        Returns:
            Start layer to the answer up to its closing quote; None to that without a patch.

        Raises:
            ValueError: the tokenizer merges the end of `target` with `rest`.
        """
        start, whole = self.encode(target), self.encode(target + rest)
        if whole[: len(start)] != start:
            raise ValueError(f"the tokenizer merges the end of {target!r} with {rest!r}")
        layers = tuple(range(self.anatomy.n_layers) if start_layers is None else start_layers)
        states = self.residual_stream(sources).float().mean(dim=0).to(self.anatomy.dtype)
        request = PatchRequest(
            prompts=(PatchPrompt(tuple(whole), len(start) - 1),),
            patches=states[None, None],
            start_layers=layers,
            token_ids_of_interest=pad_token_ids([[]]),
            generate_at=layers,
            max_new_tokens=max_new_tokens,
            stop_ids=self._answers.stop_ids,
        )
        run = run_patching(self.anatomy, request, batch_size=16)
        generated = {None: run.unpatched_generated[0]} | dict(
            zip(layers, run.generated[0, 0], strict=True)
        )
        return {
            layer: answer_of(self._answers.text(tokens.tolist()))
            for layer, tokens in generated.items()
        }


def open_checkpoint(
    source: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
) -> OpenCheckpoint:
    """Load a checkpoint: a `manifest.json` of the workflow, a folder, or a Hub id.

    Args:
        source: the manifest, the folder or the id.
        revision: branch, tag or commit of a Hub id.
        subfolder: where the checkpoint lies within it.
        dtype: `float32`, `bfloat16` or `float16`.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        StudyError: there is no such checkpoint, its architecture is not supported, or its weights
            are pickles or incomplete.
    """
    weights = tokenizer = CheckpointLocation(str(source), revision, subfolder)
    if Path(source).name == "manifest.json":
        manifest = CheckpointManifest.read(Path(source))
        weights, tokenizer = manifest.location, manifest.tokenizer_location
    loaded = load_model(weights, dtype=dtype, device=device)
    return OpenCheckpoint(loaded.model, load_tokenizer(tokenizer), loaded.anatomy)
