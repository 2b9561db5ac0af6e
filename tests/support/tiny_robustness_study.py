"""The tiny study with a robustness part, for tests that read it or break it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from glossogenesis.study.study import Study
from support.tiny_study import tiny_study

POSTS = "title\tbody\tlabel\n" + "".join(
    f"post {number}\ttext of post {number}\t{'cats' if number % 2 else 'dogs'}\n"
    for number in range(20)
)


def tiny_robustness_study(
    folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None
) -> Study:
    """Write the tiny study with posts and robustness, with its content changed, and load it."""
    (folder / "posts.tsv").write_text(POSTS, encoding="utf-8")
    (folder / "spellings.tsv").write_text("concept\tkind\tvariant\tsentence\n", encoding="utf-8")

    def extend(content: dict[str, Any]) -> None:
        content["models"]["local"] |= {"n_layers": 6, "layers": {"every": 2}}
        content["robustness"] = {
            "models": {"local": "late", "small": "end"},
            "posts": {"text": {"kind": "files", "files": ["posts.tsv"]}, "language": "en"},
            "saes": {"l1": {"preset": "fukasawa2026"}},
            "variants": {"file": "spellings.tsv"},
        }
        change(content)

    return tiny_study(folder, extend)
