"""From texts to tokens, from tokens to contexts of one length, and from these to bounded shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Literal

import numpy as np
import polars as pl
import torch

from glossogenesis.corpora.control_tokens import control_ids, text_tokenizer
from glossogenesis.corpora.token_languages import ScriptLanguages, vocabulary_bytes
from glossogenesis.corpora.tokenised import (
    BLOCK_TENSORS,
    NO_DOCUMENT,
    NO_LANGUAGE,
    VOCABULARY_FILE,
    FileFacts,
    SplitFacts,
    TokenisedCorpus,
)
from glossogenesis.exceptions import StudyError
from glossogenesis.storage.provenance import Provenance, file_digest
from glossogenesis.storage.tables import write_table
from glossogenesis.storage.tensors import write_tensors

RECORD = np.dtype(
    [
        ("token_ids", np.int32),
        ("documents", np.int32),
        ("positions", np.int32),
        ("token_languages", np.uint8),
        ("kept", np.bool_),
    ]
)
"""What is known of a token before it is in a context; names as in `ContextBlock`."""

TensorBlock = Mapping[str, np.ndarray]
"""The tensors of a `ContextBlock` as arrays `[context, position]`, by name."""

DTYPES: Mapping[str, type[np.generic]] = {
    "token_ids": np.int32,
    "documents": np.int32,
    "positions": np.int32,
    "languages": np.uint8,
    "token_languages": np.uint8,
    "kept": np.bool_,
}

BYTES_OF_A_TOKEN = sum(np.dtype(dtype).itemsize for dtype in DTYPES.values())

BYTES_OF_A_SHARD = 32_000_000
"""Size that no shard exceeds, but that one context may."""

VOCABULARY_SCHEMA = pl.Schema({"token_id": pl.Int32, "text": pl.String, "bytes": pl.Binary})


@dataclass(frozen=True)
class CorpusTokenizer:
    """A fast tokenizer and the ids that corpora treat apart."""

    backend: Any
    """The `tokenizers.Tokenizer`, which splits control tokens in texts."""
    vocabulary: Sequence[bytes]
    """The bytes of each token, by its id."""
    digest: str
    """The checkpoint's `tokenizer_digest`."""
    special_ids: frozenset[int]
    """Tokens that stand for no text. That of unknown words is not among them: it is text."""
    end_id: int | None
    """The end-of-document token, where there is one."""
    pad_id: int
    """Fills padding: the tokenizer's own, else its end-of-document token, else 0."""

    @classmethod
    def of(cls, tokenizer: Any, digest: str, folder: Path | str) -> CorpusTokenizer:
        """Wrap a transformers tokenizer that was loaded from `folder`.

        StudyError where it is not a fast one, which alone tell the characters of each token.
        """
        if not tokenizer.is_fast:
            raise StudyError(
                f"{folder}: the tokenizer has no fast form, which tells the characters of each "
                "token; save a tokenizer.json beside it"
            )
        pad_ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        return cls(
            backend=text_tokenizer(tokenizer),
            vocabulary=vocabulary_bytes(tokenizer.backend_tokenizer),
            digest=digest,
            special_ids=control_ids(tokenizer),
            end_id=tokenizer.eos_token_id,
            pad_id=next(token for token in pad_ids if token is not None),
        )


@dataclass(frozen=True)
class RecordMaker:
    """Makes records of texts in one way."""

    tokenizer: CorpusTokenizer
    languages: ScriptLanguages
    add_special_tokens: bool
    """Whether the tokenizer adds its own, such as a token at the beginning of each document."""
    end_documents: bool
    """Whether each document is ended by the end-of-document token, where the tokenizer has one
    and has not put it there itself."""
    longest: int | None
    """Tokens of a document after which it is truncated; special tokens stay, as the tokenizer
    places them."""

    def records(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the records `[token]` of all texts in a row, and the `[text]` number of each.

        `documents` counts the texts from 0. `kept` is False at special tokens alone.
        """
        ids, spans, lengths = self._encoded(texts)
        records = np.zeros(len(ids), dtype=RECORD)
        if not len(ids):
            return records, lengths
        first_tokens = np.cumsum(lengths) - lengths
        special = np.isin(ids, list(self.tokenizer.special_ids))
        languages = self.languages.of_tokens(texts, spans, lengths)
        records["token_ids"] = ids
        records["documents"] = np.repeat(np.arange(len(texts)), lengths)
        records["positions"] = np.arange(len(ids)) - np.repeat(first_tokens, lengths)
        records["token_languages"] = np.where(special, NO_LANGUAGE, languages)
        records["kept"] = ~special
        return records, lengths

    def _encoded(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return token ids `[token]`, spans `[token, 2]` and tokens of each text `[text]`."""
        backend = self.tokenizer.backend
        backend.no_padding()
        if self.longest is None:
            backend.no_truncation()
        else:
            backend.enable_truncation(self.longest)
        encodings = backend.encode_batch(list(texts), add_special_tokens=self.add_special_tokens)
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        lengths = []
        for text, encoding in zip(texts, encodings, strict=True):
            before = len(ids)
            ids += encoding.ids
            spans += encoding.offsets
            if self._lacks_end(ids[before:][-1:]):
                ids.append(self.tokenizer.end_id or 0)
                spans.append((len(text), len(text)))
            lengths.append(len(ids) - before)
        return (
            np.array(ids, dtype=np.int32),
            np.array(spans, dtype=np.int64).reshape(-1, 2),
            np.array(lengths, dtype=np.int64),
        )

    def _lacks_end(self, last: list[int]) -> bool:
        end = self.tokenizer.end_id
        return self.end_documents and end is not None and last != [end]


def padding(shape: tuple[int, ...], pad_id: int) -> np.ndarray:
    """Return records of padding."""
    records = np.zeros(shape, dtype=RECORD)
    records["token_ids"] = pad_id
    records["documents"] = NO_DOCUMENT
    records["token_languages"] = NO_LANGUAGE
    return records


@dataclass(frozen=True)
class ContextShape:
    """How documents become contexts."""

    context: int
    """Tokens of a context."""
    fill: Literal["packed", "padded"]
    """`packed`: the documents follow each other and are cut regardless of where they end;
    `padded`: a document a context, padded on the right."""
    drop_first: bool
    """Whether the first token of a context is not kept."""
    pad_id: int


@dataclass
class ContextSpool:
    """Contexts in a nameless temporary file, which the system removes whatever happens."""

    folder: Path
    context: int
    contexts: int = 0
    _file: IO[bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = TemporaryFile(dir=self.folder)  # noqa: SIM115  # open as long as the object

    def append(self, contexts: np.ndarray) -> None:
        """Add records `[context, position]`."""
        self._file.write(contexts.tobytes())
        self.contexts += len(contexts)

    def rewind(self) -> None:
        """Read from the first context."""
        self._file.seek(0)

    def read(self, contexts: int) -> np.ndarray:
        """Return the next contexts, records `[context, position]`."""
        content = self._file.read(contexts * self.context * RECORD.itemsize)
        return np.frombuffer(content, dtype=RECORD).reshape(-1, self.context)


class ContextFiller:
    """Fills contexts with one language's documents of one split.

    It is full when the contexts have exactly `budget` kept tokens: the last context is padded from
    there on. A token is kept if it is no special token, no padding and, with `drop_first`, not the
    first of its context.
    """

    def __init__(self, shape: ContextShape, budget: int, spool: ContextSpool) -> None:
        self.shape = shape
        self.budget = budget
        self.spool = spool
        self.tokens = 0
        """Kept tokens in the contexts that are finished."""
        self.documents = 0
        """Documents that occur in them; they are numbered from 0."""
        self._seen = 0
        self._waiting = np.zeros(0, dtype=RECORD)

    @property
    def is_full(self) -> bool:
        """Whether the budget is met."""
        return self.tokens >= self.budget

    def add(self, records: np.ndarray, lengths: np.ndarray) -> None:
        """Add documents, as `RecordMaker.records` gives them; what is over the budget is lost."""
        if self.shape.fill == "padded":
            self._spool_within_budget(self._padded(records, lengths))
            return
        records["documents"] += self._seen
        self._seen += len(lengths)
        tokens = np.concatenate([self._waiting, records])
        whole = len(tokens) - len(tokens) % self.shape.context
        self._waiting = tokens[whole:]
        self._spool_within_budget(tokens[:whole].reshape(-1, self.shape.context))

    def finish(self) -> None:
        """Add what waits for its context to become full, padded."""
        if len(self._waiting) and not self.is_full:
            context = padding((1, self.shape.context), self.shape.pad_id)
            context[0, : len(self._waiting)] = self._waiting
            self._spool_within_budget(context)
        self._waiting = self._waiting[:0]

    def _padded(self, records: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return a context for each document that has a token to keep."""
        contexts = padding((len(lengths), self.shape.context), self.shape.pad_id)
        contexts[np.arange(self.shape.context) < lengths[:, None]] = records
        contexts = contexts[self._kept(contexts).any(axis=1)]
        numbers = self._seen + np.arange(len(contexts), dtype=np.int32)
        contexts["documents"] = np.where(
            contexts["documents"] >= 0, numbers[:, None], contexts["documents"]
        )
        self._seen += len(contexts)
        return contexts

    def _kept(self, contexts: np.ndarray) -> np.ndarray:
        """Return which tokens are kept, bool `[context, position]`."""
        kept: np.ndarray = contexts["kept"].copy()
        if self.shape.drop_first:
            kept[:, 0] = False
        return kept

    def _spool_within_budget(self, contexts: np.ndarray) -> None:
        contexts = contexts.copy()
        contexts["kept"] = self._kept(contexts)
        counted = self.tokens + np.cumsum(contexts["kept"].sum(axis=1))
        last = int(np.searchsorted(counted, self.budget))
        if self.is_full or not len(contexts):
            return
        contexts = contexts[: last + 1]
        if last < len(counted) and counted[last] > self.budget:
            surplus = int(counted[last]) - self.budget
            first_surplus = np.flatnonzero(contexts[last]["kept"])[-surplus]
            contexts[last, first_surplus:] = padding((), self.shape.pad_id)
        self.tokens += int(contexts["kept"].sum())
        self.documents = int(contexts["documents"].max()) + 1
        self.spool.append(contexts)


def interleaved(counts: list[int]) -> np.ndarray:
    """Return an order of contexts in which every beginning has the proportions of the whole.

    `counts` are the contexts of each language; the result `[context]` is each context's language.
    The contexts of a language stand evenly spaced; of several at one place, the first language's.
    """
    places = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    languages = np.repeat(np.arange(len(counts)), counts)
    return languages[np.argsort(places, kind="stable")]


def merged(
    spools: list[ContextSpool], documents: list[int], contexts: int
) -> Iterator[TensorBlock]:
    """Yield the contexts of all languages, interleaved, in blocks of at most `contexts`.

    `documents` is each language's number of documents; numbers become unique by counting on from
    language to language. A block has the tensors of a `ContextBlock`.
    """
    for spool in spools:
        spool.rewind()
    first_document = np.cumsum([0, *documents[:-1]], dtype=np.int32)
    order = interleaved([spool.contexts for spool in spools])
    for start in range(0, len(order), contexts):
        languages = order[start : start + contexts]
        block = np.zeros((len(languages), spools[0].context), dtype=RECORD)
        for number, spool in enumerate(spools):
            rows = languages == number
            block[rows] = spool.read(int(rows.sum()))
        is_token = block["documents"] >= 0
        numbers = block["documents"] + first_document[languages][:, None]
        yield {
            **{name: block[name] for name in ("token_ids", "positions", "token_languages", "kept")},
            "documents": np.where(is_token, numbers, block["documents"]),
            "languages": np.where(is_token, languages[:, None], NO_LANGUAGE),
        }


@dataclass(frozen=True)
class CorpusHeader:
    """What a manifest says of a corpus beside its files; the fields are `TokenisedCorpus`'."""

    corpus: str
    languages: tuple[str, ...]
    known_by_script: tuple[str, ...]
    context: int
    fill: str
    drop_first: bool
    tokenizer_digest: str
    pad_id: int
    end_id: int | None
    sources: Mapping[str, Mapping[str, Any]]


def write_tokenised(
    folder: Path,
    header: CorpusHeader,
    blocks: Mapping[str, Iterable[TensorBlock]],
    vocabulary: Sequence[bytes],
    provenance: Provenance,
    *,
    bytes_of_a_shard: int = BYTES_OF_A_SHARD,
) -> TokenisedCorpus:
    """Write a corpus into a folder, in place of one that is there.

    `blocks` gives the contexts of each split in order, in blocks of any size, and `vocabulary` the
    bytes of each token by its id. Shards appear as they fill; the manifest stands last, so that an
    interrupted run leaves none.
    """
    remove_corpus(folder)
    per_shard = max(1, bytes_of_a_shard // (BYTES_OF_A_TOKEN * header.context))
    splits = {
        split: _write_split(folder, split, header.languages, content, per_shard, provenance)
        for split, content in blocks.items()
    }
    table = pl.DataFrame(
        {
            "token_id": list(range(len(vocabulary))),
            "text": [token.decode("utf-8", errors="replace") for token in vocabulary],
            "bytes": list(vocabulary),
        },
        schema=VOCABULARY_SCHEMA,
    )
    write_table(folder / VOCABULARY_FILE, table, provenance)
    corpus = TokenisedCorpus(
        folder=folder,
        splits=splits,
        vocabulary_file=_facts_of(folder / VOCABULARY_FILE),
        provenance=asdict(provenance),
        **{name: getattr(header, name) for name in header.__dataclass_fields__},
    )
    corpus.write()
    return corpus


def remove_corpus(folder: Path) -> None:
    """Delete the manifest, the shards and the vocabulary in a folder, the manifest first."""
    for pattern in ("manifest.json", "train_*.safetensors", "held_out_*.safetensors"):
        for path in sorted(folder.glob(pattern)):
            path.unlink()
    (folder / VOCABULARY_FILE).unlink(missing_ok=True)


def _write_split(
    folder: Path,
    split: str,
    languages: tuple[str, ...],
    blocks: Iterable[TensorBlock],
    per_shard: int,
    provenance: Provenance,
) -> SplitFacts:
    """Write the shards of one split and count what they hold."""
    shards: list[FileFacts] = []
    tokens = np.zeros(len(languages), dtype=np.int64)
    documents = 0
    for number, block in enumerate(_regrouped(blocks, per_shard)):
        path = folder / f"{split}_{number:05d}.safetensors"
        write_tensors(
            path, {name: torch.from_numpy(block[name]) for name in BLOCK_TENSORS}, provenance
        )
        shards.append(_facts_of(path, len(block["kept"])))
        tokens += np.bincount(block["languages"][block["kept"]], minlength=len(languages))
        documents = max(documents, int(block["documents"].max(initial=NO_DOCUMENT)) + 1)
    return SplitFacts(
        contexts=sum(shard.contexts for shard in shards),
        tokens=dict(zip(languages, tokens.tolist(), strict=True)),
        documents=documents,
        shards=tuple(shards),
    )


def _regrouped(blocks: Iterable[TensorBlock], contexts: int) -> Iterator[dict[str, np.ndarray]]:
    """Regroup contexts into blocks of exactly `contexts`, but for the last."""
    held: list[TensorBlock] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block["kept"])
        while count >= contexts:
            joined = _joined(held)
            yield {name: array[:contexts] for name, array in joined.items()}
            held = [{name: array[contexts:] for name, array in joined.items()}]
            count -= contexts
    if count:
        yield _joined(held)


def _joined(blocks: Sequence[TensorBlock]) -> dict[str, np.ndarray]:
    return {
        name: np.ascontiguousarray(np.concatenate([block[name] for block in blocks]), dtype=dtype)
        for name, dtype in DTYPES.items()
    }


def _facts_of(path: Path, contexts: int = 0) -> FileFacts:
    return FileFacts(path.name, path.stat().st_size, file_digest(path), contexts)
