"""Tokenise a corpus: its documents, language by language, until every budget is met.

Each language is read once, from the beginning, and no further than its budgets need. Its contexts
wait in a temporary file; then those of all languages are interleaved and written in shards. Memory
holds a batch of documents or a shard, whatever the budgets are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.corpora.contexts import (
    ContextFiller,
    ContextShape,
    ContextSpool,
    CorpusHeader,
    CorpusTokenizer,
    RecordMaker,
    TensorBlock,
    merged,
    write_tokenised,
)
from glossogenesis.corpora.documents import SPLITS, Split, split_of
from glossogenesis.corpora.sources import CorpusText
from glossogenesis.corpora.token_languages import ScriptLanguages, languages_known_by_script
from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.progress import progress
from glossogenesis.storage.files import full_disk_in_one_line
from glossogenesis.storage.provenance import Provenance
from glossogenesis.study.inputs import CorpusSettings, Script

DOCUMENTS_AT_ONCE = 1000
CHARACTERS_AT_ONCE = 200_000
"""Bounds of a batch of documents; one document may be longer."""

TOKENS_AT_ONCE = 500_000
"""Bound of a block of contexts on their way into a shard."""

OPTIONS = "Free some space, or lower the corpus' `train_tokens` or `held_out_tokens`"
"""What to do where a disk is too small for a corpus."""

Fillers = dict[Split, ContextFiller]


@dataclass(frozen=True)
class CorpusPlan:
    """What corpus is made."""

    name: str
    settings: CorpusSettings
    scripts: Mapping[str, Script]
    """Languages of the corpus, in its order, with their scripts."""
    add_special_tokens: bool


def prepare_corpus(
    plan: CorpusPlan,
    text: CorpusText,
    tokenizer: CorpusTokenizer,
    folder: Path,
    provenance: Provenance,
) -> TokenisedCorpus:
    """Tokenise a corpus into a folder and return it.

    Budgets count kept tokens (see `ContextFiller`) and are met exactly. StudyError where a text is
    bad, or a language has too few tokens for one of its budgets.
    """
    settings = plan.settings
    with full_disk_in_one_line(folder, OPTIONS):
        filled = _fill_languages(plan, text, tokenizer, folder)
        blocks: dict[str, Iterator[TensorBlock]] = {
            split: merged(
                [fillers[split].spool for fillers in filled],
                [fillers[split].documents for fillers in filled],
                max(1, TOKENS_AT_ONCE // settings.context),
            )
            for split in SPLITS
        }
        header = CorpusHeader(
            corpus=plan.name,
            languages=tuple(plan.scripts),
            known_by_script=languages_known_by_script(plan.scripts),
            context=settings.context,
            fill=settings.fill,
            drop_first=settings.drop_first,
            tokenizer_digest=tokenizer.digest,
            pad_id=tokenizer.pad_id,
            end_id=tokenizer.end_id,
            sources={language: text.source(language) for language in plan.scripts},
        )
        return write_tokenised(folder, header, blocks, tokenizer.vocabulary, provenance)


def _fill_languages(
    plan: CorpusPlan, text: CorpusText, tokenizer: CorpusTokenizer, folder: Path
) -> list[Fillers]:
    """Read every language, in the corpus' order."""
    settings = plan.settings
    packed = settings.fill == "packed"
    maker = RecordMaker(
        tokenizer,
        ScriptLanguages.of(plan.scripts),
        plan.add_special_tokens,
        end_documents=packed,
        longest=None if packed else settings.context,
    )
    shape = ContextShape(settings.context, settings.fill, settings.drop_first, tokenizer.pad_id)
    return [_fill_language(plan, text, language, maker, shape, folder) for language in plan.scripts]


def _fill_language(
    plan: CorpusPlan,
    text: CorpusText,
    language: str,
    maker: RecordMaker,
    shape: ContextShape,
    folder: Path,
) -> Fillers:
    """Read a language's documents until both of its splits are full."""
    settings = plan.settings
    fillers: Fillers = {
        split: ContextFiller(
            shape, settings.tokens_of(split, language), ContextSpool(folder, shape.context)
        )
        for split in SPLITS
    }
    wanted = sum(filler.budget for filler in fillers.values())
    with progress(total=wanted, label=f"tokens of {language}", unit="tok") as bar:
        for documents in _batches(text.documents(language)):
            split_documents: dict[Split, list[str]] = {split: [] for split in SPLITS}
            for document in documents:
                split_documents[split_of(document, settings.held_out_share)].append(document)
            for split, filler in fillers.items():
                if not filler.is_full and split_documents[split]:
                    before = filler.tokens
                    filler.add(*maker.records(split_documents[split]))
                    bar.update(filler.tokens - before)
            if all(filler.is_full for filler in fillers.values()):
                break
    for split, filler in fillers.items():
        filler.finish()
        if not filler.is_full:
            raise StudyError(_too_few(plan, text, language, split, filler))
    return fillers


def _batches(documents: Iterator[str]) -> Iterator[list[str]]:
    """Group documents into batches of bounded size."""
    batch: list[str] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document)
        if len(batch) == DOCUMENTS_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _too_few(
    plan: CorpusPlan, text: CorpusText, language: str, split: Split, filler: ContextFiller
) -> str:
    key = f"{split}_tokens"
    share = plan.settings.held_out_share
    other = "raise" if split == "held_out" else "lower"
    return (
        f"corpora.{plan.name}: the text of language {language!r} has {filler.tokens:,} tokens for "
        f"`{key}`, which asks for {filler.budget:,}; {text.how_to_get_more(language)}, lower "
        f"`{key}`, or {other} `held_out_share` ({share})"
    )
