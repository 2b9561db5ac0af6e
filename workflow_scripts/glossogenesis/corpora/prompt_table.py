"""The table of a model's prompts: `results/prompts/{model}/translation.parquet`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from glossogenesis.concepts.prompts import (
    LanguagePair,
    answer_length,
    answer_tokens,
    require_open_end,
    tokenise_prompt,
)
from glossogenesis.corpora.concept_pairs import Item, ItemSelection, select_items
from glossogenesis.corpora.control_tokens import Encode
from glossogenesis.corpora.lexicon import Lexicon

PROMPTS_SCHEMA = pl.Schema(
    {
        "role": pl.String(),  # source or target
        "item": pl.Int32(),  # null for source prompts, which items share
        "concept": pl.String(),  # whose word is asked for
        "input_language": pl.String(),
        "output_language": pl.String(),
        "few_shot": pl.List(pl.String()),
        "text": pl.String(),
        "token_ids": pl.List(pl.Int32()),
        "position": pl.Int32(),  # index of the query word's last token
        "source_concept": pl.String(),  # of the item; the concept itself for source prompts
        "answer_tokens": pl.List(pl.Int32()),  # first tokens of the concept's answer
        "answer_length": pl.Int32(),  # tokens of its usual word in the output language
        "source_answer_tokens": pl.List(pl.Int32()),  # and of the item's source concept
    }
)


@dataclass(frozen=True)
class PromptTable:
    """All prompts of a model, and what was counted while they were made."""

    table: pl.DataFrame
    counts: dict[str, int]

    @property
    def summary(self) -> str:
        """One line for the log."""
        return "; ".join(
            f"{name.replace('_', ' ')}: {count}" for name, count in self.counts.items()
        )


def build_prompts(
    lexicon: Lexicon,
    encode: Encode,
    *,
    endonyms: Mapping[str, str],
    source_pairs: Sequence[LanguagePair],
    measured_pairs: Sequence[LanguagePair],
    items: int,
    few_shot: int,
    seed: int,
    space_variants: bool,
) -> PromptTable:
    """Draw items and make their source and target prompts.

    Source prompts: every source concept in every source pair. Target prompts: every item in every
    measured pair. Every prompt's
    tokens are checked; StudyError as in `require_open_end`, `tokenise_prompt`, `answer_tokens` and
    `select_items`.
    """
    require_open_end(encode)
    outputs = sorted({output for _, output in (*measured_pairs, *source_pairs)})
    first_tokens = answer_tokens(lexicon, outputs, endonyms, encode, space_variants=space_variants)
    measured_outputs = {output for _, output in measured_pairs}
    selection = select_items(
        lexicon.concepts,
        {
            name: {code: tokens for code, tokens in by.items() if code in measured_outputs}
            for name, by in first_tokens.items()
        },
        items=items,
        few_shot=few_shot,
        seed=seed,
    )
    concepts = {concept.name: concept for concept in lexicon.concepts}
    lengths = {
        (concept.name, code): answer_length(concept.word(code), endonyms[code], encode)
        for concept in lexicon.concepts
        for code in outputs
    }

    def row(concept: str, pair: LanguagePair, shots: Sequence[str], **extra: Any) -> dict[str, Any]:
        prompt = tokenise_prompt(
            concepts[concept], pair, [concepts[shot] for shot in shots], endonyms, encode
        )
        return {
            "concept": concept,
            "input_language": pair[0],
            "output_language": pair[1],
            "few_shot": list(shots),
            **asdict(prompt),
            "answer_tokens": sorted(first_tokens[concept][pair[1]]),
            "answer_length": lengths[concept, pair[1]],
            "source_answer_tokens": sorted(first_tokens[extra["source_concept"]][pair[1]]),
            **extra,
        }

    sources = {item.source: item.source_few_shot for item in selection.items}
    rows = [
        row(concept, pair, shots, role="source", item=None, source_concept=concept)
        for pair in source_pairs
        for concept, shots in sources.items()
    ]
    rows += [
        row(item.target, pair, item.target_few_shot, role="target", **_item_columns(item))
        for pair in measured_pairs
        for item in selection.items
    ]
    table = pl.DataFrame(rows, schema=PROMPTS_SCHEMA)
    return PromptTable(table, _counts(lexicon, selection, table))


def answers_too_long(prompts: pl.DataFrame, max_new_tokens: int) -> int:
    """Return how many prompts ask for a word that so many new tokens cannot spell."""
    return prompts.filter(pl.col("answer_length") > max_new_tokens).height


def _item_columns(item: Item) -> dict[str, Any]:
    return {"item": item.number, "source_concept": item.source}


def _counts(lexicon: Lexicon, selection: ItemSelection, table: pl.DataFrame) -> dict[str, int]:
    return {
        "concepts": len(lexicon.concepts),
        "concepts_left_out": lexicon.left_out,
        "items": len(selection.items),
        "usable_pairs": selection.usable_pairs,
        "colliding_pairs_left_out": selection.colliding_pairs,
        "source_prompts": table.filter(role="source").height,
        "target_prompts": table.filter(role="target").height,
    }
