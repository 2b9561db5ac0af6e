"""The choices that labels and monosemanticity depend on, and each alternative to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from glossogenesis.features.schemas import DEFAULT
from glossogenesis.study.features import (
    LanguageBy,
    LanguageRule,
    Linkage,
    MonosemanticityRule,
    Sensitivity,
)


@dataclass(frozen=True)
class Choices:
    """One value of everything that `sensitivity` may vary; the keys are the study's."""

    share: float
    threshold: float
    bilingual_share: float
    symbol_share: float
    examples: int
    by: LanguageBy
    linkage: Linkage
    cosine: float
    embedding: str

    @classmethod
    def of(cls, language: LanguageRule, meaning: MonosemanticityRule) -> Choices:
        """The study's own choices."""
        return cls(
            share=language.share,
            threshold=language.threshold,
            bilingual_share=language.bilingual_share,
            symbol_share=language.symbol_share,
            examples=language.examples,
            by=language.by,
            linkage=meaning.linkage,
            cosine=meaning.cosine,
            embedding=meaning.embedding,
        )


@dataclass(frozen=True)
class Alternative:
    """A row of `sensitivity.parquet`: which choice is another, its value, and all choices."""

    choice: str
    value: str
    choices: Choices


def alternatives(default: Choices, sensitivity: Sensitivity) -> tuple[Alternative, ...]:
    """The study's own choices, then each other value of one of them, in the order of the study."""
    return (Alternative(DEFAULT, DEFAULT, default), *_others(default, sensitivity))


def _others(default: Choices, sensitivity: Sensitivity) -> Iterator[Alternative]:
    for choice in type(sensitivity).model_fields:
        for value in getattr(sensitivity, choice):
            yield Alternative(choice, str(value), replace(default, **{choice: value}))
