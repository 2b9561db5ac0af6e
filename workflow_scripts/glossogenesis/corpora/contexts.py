"""From the tokens of documents to contexts of one length, until a budget is met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Literal

import numpy as np

from glossogenesis.corpora.corpus_tokenizer import RECORD, padding
from glossogenesis.corpora.tokenised import NO_LANGUAGE
from glossogenesis.corpora.tokenised_writer import TensorBlock


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
