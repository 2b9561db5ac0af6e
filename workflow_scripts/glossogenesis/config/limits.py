"""What a study file may not hold whatever its keys: aliases that explode, and endless numbers.

YAML's aliases let a short file stand for more than any memory holds, and its numbers have no end.
Both are found before anything is made of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from glossogenesis.errors import StudyError

MOST_VALUES = 1_000_000
"""Values of a study file, with what aliases repeat counted as often as it is repeated."""

LONGEST_FILE = 1_000_000
"""Characters of a study file; a thousand times what the shipped ones have."""

LARGEST_NUMBER = 2**63 - 1
"""Beyond it neither tables nor seeds hold a number."""


def load_yaml(text: str, file: Path) -> Any:
    """Return the content of a YAML text, of plain values alone.

    StudyError where it is too large; yaml.YAMLError, ValueError or RecursionError where it is not
    YAML.
    """
    if len(text) > LONGEST_FILE:
        raise StudyError(
            f"{file}: {len(text):,} characters, more than a study has; a list of many checkpoints "
            "belongs into the sheet"
        )
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        # Before values are made: merging keys would already repeat what aliases stand for.
        if _expanded_size(node, {}) > MOST_VALUES:
            raise StudyError(
                f"{file}: its aliases (`*name`) stand for more than {MOST_VALUES:,} values; write "
                "out what is meant"
            )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def check_numbers(content: Mapping[str, Any], file: Path) -> None:
    """StudyError where a number, be it a key, is larger than anything that counts."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", content)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, int | float) and LARGEST_NUMBER < abs(value) < math.inf:
            raise StudyError(
                f"{file}: `{key}` is a number beyond {LARGEST_NUMBER} (about 9.2e18); write a "
                "smaller one"
            )
        if not isinstance(value, Mapping | list) or id(value) in seen:
            continue
        seen.add(id(value))
        inside = list(value.items() if isinstance(value, Mapping) else enumerate(value))
        waiting += [(key, name) for name, _ in inside if isinstance(value, Mapping)]
        waiting += [(_joined(key, name), item) for name, item in inside]


def _joined(key: str, name: Any) -> str:
    shown = str(name) if isinstance(name, str) or _is_small(name) else "…"
    return f"{key}.{shown}" if key else shown


def _is_small(name: Any) -> bool:
    return isinstance(name, int) and abs(name) <= LARGEST_NUMBER


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return the number of values that a node stands for, without end where it holds itself."""
    if id(node) in sizes:
        return sizes[id(node)]
    # Met again before its size is known, a node is inside itself.
    sizes[id(node)] = MOST_VALUES + 1
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    size = 1 + sum(_expanded_size(child, sizes) for child in children)
    sizes[id(node)] = size
    return size
