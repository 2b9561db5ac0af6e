"""A tiny pretraining in two phases, on text of made-up words."""

from __future__ import annotations

from typing import Any

from glossogenesis.corpora.lexicon import Concept
from glossogenesis.pretraining.text import TextSource, demo_source
from glossogenesis.study.pretrain import PretrainSettings

ENDONYMS = {
    "en": "English",
    "es": "Español",
    "ja": "日本語",
    "ru": "Русский",
    "fi": "Suomi",
    "zh": "中文",
}
SHARES = {"en": {1: 0.5, 2: 0.4}, "es": {1: 0.5, 2: 0.3}, "ja": {2: 0.3}}
SETTINGS = {
    "text": {
        "kind": "demo",
        "phases": {1: {"pairs": "pivot"}, 2: {"pairs": "all"}},
        "lines": (2, 4),
    },
    "steps": {1: 6, 2: 6},
    "saved_steps": (0, 1, 2, 4, 8, 12),
    "model": {
        "vocabulary": 300,
        "hidden": 16,
        "layers": 2,
        "heads": 2,
        "feed_forward": 24,
        "positions": 64,
    },
    "context": 32,
    "batch": 4,
    "short_contexts": [{"context": 16, "steps": 3}],
    "optimizer": {"name": "muon", "rate": 0.01, "warmup_steps": 2},
    "tokenizer_characters": 5000,
}
SETTINGS_OF_ADAMW = {
    **SETTINGS,
    "optimizer": {"name": "adamw", "rate": 0.01, "warmup_steps": 2},
    "dtype": "bfloat16",
}


def concept(number: int) -> Concept:
    words = {"en": f"word{number}x", "es": f"palabra{number}y", "ja": f"言葉{number}"}
    return Concept(
        f"c{number}", "noun", "food", "food", {code: (word,) for code, word in words.items()}
    )


CONCEPTS = tuple(concept(number) for number in range(12))


def settings_of(content: dict[str, Any] = SETTINGS, **changes: Any) -> PretrainSettings:
    return PretrainSettings.model_validate({**content, **changes})


def source_of(settings: PretrainSettings) -> TextSource:
    return demo_source(settings.text, CONCEPTS, ENDONYMS, SHARES)
