"""The tiny study with a features part, for tests that read it or break it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from glossogenesis.study.study import Study
from support.tiny_study import tiny_study


def tiny_features_study(
    folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None
) -> Study:
    """Write the tiny study with corpora and features, with its content changed, and load it."""
    (folder / "en.txt").write_text("a cat", encoding="utf-8")
    (folder / "ru.txt").write_text("кошка", encoding="utf-8")

    def extend(content: dict[str, Any]) -> None:
        content["corpora"] = {
            "text": {
                "text": {"kind": "files", "files": {"en": ["en.txt"], "ru": ["ru.txt"]}},
                "train_tokens": 1000,
                "held_out_tokens": {"en": 100, "ru": 300},
                "context": 16,
            }
        }
        content["models"]["local"] |= {"n_layers": 6, "layers": {"every": 2}}
        content["features"] = {
            "corpus": "text",
            "saes": {"topk": {"latents": 64, "k": 4, "seeds": [3, 5]}, "wide": {"k": 8}},
            "injection": {"model": "local", "layers": [3]},
        }
        change(content)

    return tiny_study(folder, extend)
