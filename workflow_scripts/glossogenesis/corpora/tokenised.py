"""A tokenised corpus on disk: contexts of token ids with their documents and languages.

Beside `manifest.json` lie `train_00000.safetensors`, ..., `held_out_00000.safetensors`, ... and
`vocabulary.parquet`. Reading them takes torch, but no tokenizer and no transformers.

Reading them takes torch, but no tokenizer and no transformers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import Count, PlainName, read_json, record_of, write_json

NO_LANGUAGE = 255
"""Stands in `languages` at padding, and in `token_languages` where no language is known."""

NO_DOCUMENT = -1
"""Stands in `documents` at padding."""

VOCABULARY_FILE = "vocabulary.parquet"


@dataclass(frozen=True)
class ContextBlock:
    """Consecutive contexts of one split; every tensor is `[context, position]`."""

    first: int
    """Number of the block's first context in its split."""
    token_ids: Tensor
    """int32; the corpus' `pad_id` at padding, which is always on the right."""
    documents: Tensor
    """int32: number of the token's document in its split; -1 at padding."""
    positions: Tensor
    """int32: index of the token in its document, special tokens counted; 0 at padding."""
    languages: Tensor
    """uint8: index into the corpus' languages, of the document's language; 255 at padding."""
    token_languages: Tensor
    """uint8: language by the token's script; 255 where there is none or several have it."""
    kept: Tensor
    """bool: False at padding, special tokens and, with `drop_first`, the first token of a
    context; what is trained on and measured is True."""


BLOCK_TENSORS = tuple(field.name for field in fields(ContextBlock) if field.name != "first")

POSTS_AT_ONCE = 4096


@dataclass(frozen=True)
class FileFacts:
    """One file beside the manifest; `contexts` is 0 where it is no shard."""

    file: PlainName
    bytes: Count
    sha256: str
    contexts: Count = 0


@dataclass(frozen=True)
class SplitFacts:
    """What one split holds."""

    contexts: Count
    tokens: Mapping[str, Count]
    """Kept tokens by language."""
    documents: int
    """Documents that occur in it, numbered from 0, language after language."""
    shards: tuple[FileFacts, ...]


@dataclass(frozen=True)
class TokenisedCorpus:
    """The artifact `results/corpora/{corpus}/{tokenizer}/manifest.json` and its neighbours."""

    folder: Path
    corpus: str
    languages: tuple[str, ...]
    known_by_script: tuple[str, ...]
    """Languages whose script no other language of the corpus has; `token_languages` tells only
    these apart."""
    context: int
    fill: str
    drop_first: bool
    tokenizer_digest: str
    pad_id: int
    end_id: int | None
    """The token after each document of packed text, where the tokenizer has one."""
    splits: Mapping[str, SplitFacts]
    vocabulary_file: FileFacts
    sources: Mapping[str, Mapping[str, Any]]
    """For each language, the files that were read and, of a Hub dataset, the resolved commit."""
    provenance: Mapping[str, Any]

    def write(self) -> None:
        """Write the manifest as JSON, without the folder's name."""
        content = asdict(self)
        del content["folder"]
        write_json(self.folder / "manifest.json", content)

    @classmethod
    def read(cls, manifest: Path | str) -> TokenisedCorpus:
        """Read a manifest and check that its files are there in full length.

        StudyError where the manifest is damaged, or a file is missing or of another length.
        """
        manifest = Path(manifest)
        content = read_json(manifest)
        try:
            corpus = record_of(cls, {**content, "folder": str(manifest.parent)})
            fix = corpus._fix
        except (TypeError, KeyError, ValueError) as error:
            raise StudyError(
                f"{manifest}: not a tokenised corpus' manifest ({error}); remake it with "
                "`snakemake --forcerun prepare_corpus`, or `tokenise_posts` where it is of posts"
            ) from None
        shards = [shard for split in corpus.splits.values() for shard in split.shards]
        for facts in (*shards, corpus.vocabulary_file):
            path = corpus.folder / facts.file
            size = path.stat().st_size if path.is_file() else None
            if size != facts.bytes:
                state = "missing" if size is None else f"{size} bytes long"
                raise StudyError(f"{path}: {state}, but its manifest says {facts.bytes}; {fix}")
        return corpus

    def facts(self, split: str) -> SplitFacts:
        """Return the facts of `train` or `held_out`; KeyError for any other name."""
        return self.splits[split]

    def blocks(self, split: str, contexts: int) -> Iterator[ContextBlock]:
        """Yield the contexts of a split in order, at most `contexts` a block, fewer at shard ends.

        One shard is in memory at a time. StudyError where its size or checksum is not the
        manifest's.
        """
        first = 0
        for shard in self.facts(split).shards:
            tensors = self._verified(shard)
            for start in range(0, shard.contexts, contexts):
                end = min(start + contexts, shard.contexts)
                yield ContextBlock(
                    first + start, **{name: tensors[name][start:end] for name in BLOCK_TENSORS}
                )
            first += shard.contexts

    def vocabulary(self) -> list[str]:
        """Return the text of each token alone, by token id; bytes of no character become �."""
        column: list[str] = self._vocabulary_column("text")
        return column

    def token_bytes(self) -> list[bytes]:
        """Return the bytes that each token stands for, by token id; see `text_of`."""
        column: list[bytes] = self._vocabulary_column("bytes")
        return column

    @property
    def _fix(self) -> str:
        of_posts = self.provenance["kind"] == "tokenised_posts"
        rule = "tokenise_posts" if of_posts else "prepare_corpus"
        return f"remake it with `snakemake --forcerun {rule}`"

    def _vocabulary_column(self, name: str) -> list[Any]:
        # polars takes a moment to import, and most readers need no text.
        from glossogenesis.storage.tables import read_table

        return read_table(self.folder / self.vocabulary_file.file).sort("token_id")[name].to_list()

    def _verified(self, shard: FileFacts) -> dict[str, Tensor]:
        """Read a shard and check its checksum, size and tensors."""
        path = self.folder / shard.file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StudyError(f"{path}: cannot be read ({error.strerror}); {self._fix}") from None
        if len(content) != shard.bytes or hashlib.sha256(content).hexdigest() != shard.sha256:
            raise StudyError(f"{path}: not the bytes that its manifest records; {self._fix}")
        try:
            tensors = load(content)
        except SafetensorError as error:
            raise StudyError(f"{path}: damaged safetensors file ({error}); {self._fix}") from None
        shape = (shard.contexts, self.context)
        for name in BLOCK_TENSORS:
            if name not in tensors or tuple(tensors[name].shape) != shape:
                raise StudyError(f"{path}: no tensor {name!r} of shape {shape}; {self._fix}")
        return tensors


def text_of(token_ids: Sequence[int], token_bytes: Sequence[bytes]) -> str:
    """Return the text of consecutive tokens; a character cut at either end becomes �.

    `token_bytes` is `TokenisedCorpus.token_bytes()`. Characters that several tokens make up
    together are whole, which joining the tokens' texts would not give.
    """
    return b"".join(token_bytes[token] for token in token_ids).decode("utf-8", errors="replace")


def post_token_ids(corpus: TokenisedCorpus, split: str) -> list[list[int]]:
    """Return the token ids of each post of a split, without padding, by the post's number.

    StudyError where the corpus is damaged, or its contexts are not posts.
    """
    token_ids: list[list[int]] = []
    for block in corpus.blocks(split, POSTS_AT_ONCE):
        _check_posts(corpus, split, block)
        lengths = (block.documents >= 0).sum(dim=1)
        rows = zip(block.token_ids, lengths.tolist(), strict=True)
        token_ids += [ids[:length].tolist() for ids, length in rows]
    return token_ids


def _check_posts(corpus: TokenisedCorpus, split: str, block: ContextBlock) -> None:
    """StudyError where a context is not the post of its number, padded on the right."""
    numbers = block.first + torch.arange(len(block.documents))
    is_token = block.documents >= 0
    of_number = (block.documents == numbers[:, None]) | ~is_token
    in_front = is_token[:, 1:] <= is_token[:, :-1]
    if not (is_token[:, 0].all() and of_number.all() and in_front.all()):
        raise StudyError(
            f"{corpus.folder / 'manifest.json'}: the contexts of {split!r} are not one post each; "
            "remake the corpus with `snakemake --forcerun tokenise_posts`"
        )
