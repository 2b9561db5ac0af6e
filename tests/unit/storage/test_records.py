"""Records of JSON files: closed, strict, and named by the key that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from glossogenesis.storage.files import Count, PlainName, record_of


@dataclass(frozen=True)
class Shard:
    file: PlainName
    rows: Count


@dataclass(frozen=True)
class Cache:
    layer: int
    mean: float
    shards: tuple[Shard, ...]
    provenance: Mapping[str, Any]
    revision: str | None = None


CONTENT = {
    "layer": 3,
    "mean": 1,
    "shards": [{"file": "a.safetensors", "rows": 7}],
    "provenance": {"seed": None},
}


def test_a_record_holds_records() -> None:
    assert record_of(Cache, CONTENT) == Cache(3, 1.0, (Shard("a.safetensors", 7),), {"seed": None})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"layer": "3"}, "'layer'"),
        ({"layer": True}, "'layer'"),
        ({"layers": 3}, "'layers'"),
        ({"revision": 1}, "'revision'"),
        ({"provenance": []}, "'provenance'"),
        ({"shards": [{"file": "a"}]}, "'shards.0.rows'"),
        ({"shards": [{"file": "a", "rows": 10**30}]}, "'shards.0.rows'"),
        ({"shards": [{"file": "../a", "rows": 1}]}, "'shards.0.file'"),
    ],
)
def test_the_wrong_key_is_named(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=key) as raised:
        record_of(Cache, CONTENT | change)
    assert "\n" not in str(raised.value)


def test_what_is_no_object_or_lacks_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="the whole"):
        record_of(Cache, [1])
    with pytest.raises(ValueError, match="'mean': Field required"):
        record_of(Cache, {key: value for key, value in CONTENT.items() if key != "mean"})
