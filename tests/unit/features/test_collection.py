"""Features from activations to tables: every number is what plain counting gives."""

from __future__ import annotations

import importlib
import math
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.features.collection import collect_features
from glossogenesis.features.schemas import (
    EXAMPLES_SCHEMA,
    sensitivity_schema,
    statistics_schema,
)
from glossogenesis.models.activation_order import whole_sequences
from glossogenesis.storage.activations.cache import ActivationCache
from support.feature_world import N_LATENTS, K, World, embedding_of, rules
from support.planted_features import (
    LANGUAGES,
    VOCABULARY,
    identity_sae,
    random_contexts,
    write_cache,
    write_corpus,
)


def top_k(values: list[float]) -> list[int]:
    order = sorted(range(N_LATENTS), key=lambda latent: -values[latent])
    return [latent for latent in order[:K] if values[latent] > 0]


def positive(values: list[float]) -> list[int]:
    return [latent for latent in range(N_LATENTS) if values[latent] > 0]


@pytest.mark.parametrize(("architecture", "chosen"), [("topk", top_k), ("relu", positive)])
def test_firing_statistics_by_plain_counting(
    world: World, tmp_path: Path, architecture: str, chosen: Callable[[list[float]], list[int]]
) -> None:
    sae = identity_sae(
        N_LATENTS, k=K if architecture == "topk" else None, architecture=architecture
    )
    table = world.collect(tmp_path, sae).statistics
    assert table.schema == statistics_schema(LANGUAGES)
    fired = world.fired(chosen)
    tokens = Counter(context % 2 for context, ids in enumerate(world.contexts) for _ in ids)
    for row in table.iter_rows(named=True):
        mine = [entry for entry in fired if entry["feature"] == row["feature"]]
        values = [entry["value"] for entry in mine]
        assert row["firings"] == len(mine)
        assert row["firing_frequency"] == len(mine) / tokens.total()
        assert row["maximum"] == (max(values) if values else None)
        mean = sum(values) / len(values) if values else None
        assert row["mean"] == (pytest.approx(mean, rel=1e-6) if values else None)
        assert row["encoder_maximum"] == world.activations[:, row["feature"]].max()
        for language, code in enumerate(LANGUAGES):
            here = sum(entry["context"] % 2 == language for entry in mine)
            assert row["firing_by_language"][code] == here / tokens[language]
        counted = Counter(entry["token_id"] for entry in mine)
        best = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:10]
        assert row["top_tokens"] == [
            {"token_id": token, "text": VOCABULARY[token][0], "count": count}
            for token, count in best
        ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("maximum", ["fired", "encoder"])
@pytest.mark.parametrize("limit", [3, 50])
def test_examples_by_plain_counting(world: World, tmp_path: Path, maximum: str, limit: int) -> None:
    # A latent may have its largest pre-activation where others keep it from firing.
    features = world.collect(
        tmp_path, identity_sae(N_LATENTS, k=K), language={"maximum": maximum, "examples": limit}
    )
    (table,) = features.example_parts()
    sizes = Counter(table["feature"])
    assert table.schema == EXAMPLES_SCHEMA
    fired = world.fired(top_k)
    largest: dict[int, float] = defaultdict(float)
    for entry in fired:
        largest[entry["feature"]] = max(largest[entry["feature"]], entry["value"])
    if maximum == "encoder":
        largest = dict(enumerate(world.activations.max(dim=0).values.tolist()))
    expected = []
    for feature in range(N_LATENTS):
        best: dict[int, dict[str, Any]] = {}
        for entry in fired:
            if entry["feature"] == feature and entry["value"] > 0.7 * largest[feature]:
                held = best.setdefault(entry["context"], entry)
                if entry["value"] > held["value"]:
                    best[entry["context"]] = entry
        assert features.statistics["examples"][feature] == len(best)
        assert sizes[feature] == min(limit, len(best))
        expected += list(best.values())
    keys = ("feature", "context", "column", "token_id")
    drawn, every = table.select(keys).rows(), [tuple(e[key] for key in keys) for e in expected]
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(every) if limit == 3 else sorted(drawn) == sorted(every)
    value_of = {tuple(entry[key] for key in keys): entry["value"] for entry in expected}
    assert table["activation"].to_list() == pytest.approx([value_of[k] for k in drawn], rel=2**-11)
    # Two tokens of a sequence are equally strong: the first is the example's.
    assert (3, 0, 1) not in table.select("feature", "context", "column").rows()


def test_shares_and_entropies_follow_from_the_examples(world: World, tmp_path: Path) -> None:
    features = world.collect(tmp_path, identity_sae(N_LATENTS, k=K), language={"examples": 4})
    (examples,) = features.example_parts()
    enough = features.statistics["examples"] >= 4
    assert 1 < enough.sum() < N_LATENTS
    for row in features.statistics.iter_rows(named=True):
        mine = examples.filter(feature=row["feature"])
        if mine.height < 4:
            assert row["language"] == ("unlabelled" if row["firings"] else "dead")
            assert (row["token_types"], row["monosemanticity"], row["symbol_share"]) == (
                *(0, None, None),
            )
            assert row["share_by_language"] == {"en": None, "ja": None}
            continue
        tokens = Counter(mine["token_id"])
        assert row["token_types"] == len(tokens)
        shares = [count / mine.height for count in tokens.values()]
        entropy = -sum(share * math.log(share) for share in shares)
        assert row["token_entropy"] == pytest.approx(entropy)
        assert 0 <= row["meaning_entropy"] <= entropy + 1e-9
        letters = mine.filter(pl.col("token").is_in([",", "、", "7"]).not_())
        assert row["symbol_share"] == 1 - letters.height / mine.height
        for code in LANGUAGES if letters.height else ():
            known = sum(language == code for language in letters["token_language"])
            assert row["share_by_language"][code] == known / letters.height


def planted(tmp_path: Path) -> tuple[ActivationCache, TokenisedCorpus]:
    """Latent 0 fires on English tokens, 1 on Japanese, 2 on both, 3 once, 4 never, 5 on symbols."""
    contexts = random_contexts(60, 8, seed=3)
    corpus = write_corpus(tmp_path / "corpus", contexts)
    rows = []
    for token in [token for ids in contexts for token in ids]:
        language = VOCABULARY[token][1]
        words = 0.9 * (language != 255)
        rows.append([float(language == 0), float(language == 1), words, 0.0, -1.0, 0.9 - words])
    rows[5][3] = 2.0
    return write_cache(tmp_path / "cache", corpus, torch.tensor(rows)), corpus


def test_planted_languages_are_found(tmp_path: Path) -> None:
    cache, corpus = planted(tmp_path)
    sae = identity_sae(6, k=2)
    asked = rules(
        language={"examples": 10},
        sensitivity={"examples": [1], "by": ["document", "paper"], "share": [0.5]},
    )
    features = collect_features(sae, cache, corpus, asked, embedding_of, scratch=tmp_path)
    labels = features.statistics["language"].to_list()
    assert labels == ["en", "ja", "bilingual", "unlabelled", "dead", "symbol"]
    by_choice = {
        (row["choice"], row["value"]): row["features_by_label"]
        for row in features.sensitivity.iter_rows(named=True)
    }
    assert by_choice["default", "default"] == {"mixed": 0} | Counter(labels)
    # The documents are half English, half Japanese, whatever the tokens.
    assert by_choice["by", "document"]["bilingual"] == 3
    assert by_choice["by", "document"]["symbol"] == 1
    # By the published rule, a symbol is of a language.
    assert by_choice["by", "paper"]["symbol"] == 0
    assert by_choice["examples", "1"]["unlabelled"] == 0


def test_the_default_row_is_what_the_statistics_say(world: World, tmp_path: Path) -> None:
    features = world.collect(
        tmp_path,
        identity_sae(N_LATENTS, k=K),
        language={"share": 0.6, "examples": 4},
        sensitivity={"threshold": [0.7], "cosine": [0.5], "share": [0.6], "linkage": ["average"]},
    )
    table = features.sensitivity
    assert table.schema == sensitivity_schema(LANGUAGES)
    assert table["choice"].to_list() == ["default", "share", "threshold", "linkage", "cosine"]
    # Alternatives that equal the default change nothing.
    summaries = table.drop("choice", "value")
    assert summaries.n_unique() == 1
    row = summaries.row(0, named=True)
    statistics = features.statistics
    counts = dict(statistics.group_by("language").len().rows())
    assert {label: n for label, n in row["features_by_label"].items() if n} == counts
    known = statistics.filter(pl.col("language").is_in([*LANGUAGES, "bilingual", "mixed"]))
    assert row["labelled"] == known.height
    assert row["monosemanticity"] == pytest.approx(known["monosemanticity"].mean())
    several = known.filter(pl.col("token_types") > 1)
    assert row["several_types"] == several.height
    assert row["monosemanticity_several_types"] == pytest.approx(several["monosemanticity"].mean())
    for label, mean in row["monosemanticity_by_label"].items():
        of_label = known.filter(language=label)["monosemanticity"].mean()
        assert mean == (None if of_label is None else pytest.approx(of_label))


@pytest.mark.parametrize(
    ("choice", "value", "section"),
    [
        ("share", 0.5, "language"),
        ("threshold", 0.3, "language"),
        ("examples", 9, "language"),
        ("bilingual_share", 0.4, "language"),
        ("symbol_share", 0.1, "language"),
        ("by", "document", "language"),
        ("by", "paper", "language"),
        ("linkage", "single", "monosemanticity"),
        ("cosine", 0.1, "monosemanticity"),
        ("embedding", "unembedding", "monosemanticity"),
    ],
)
def test_an_alternative_is_what_a_run_with_it_gives(
    world: World, tmp_path: Path, choice: str, value: Any, section: str
) -> None:
    sae = identity_sae(N_LATENTS, k=K)
    beside = world.collect(tmp_path, sae, sensitivity={choice: [value]}).sensitivity
    alone = world.collect(tmp_path, sae, **{section: {choice: value}}).sensitivity
    assert beside.row(1)[:2] == (choice, str(value))
    assert beside.row(1)[2:] == alone.row(0)[2:]


def test_a_damaged_shard_leaves_nothing_behind(tmp_path: Path) -> None:
    world = World(tmp_path)
    shard = sorted(world.cache.manifest.parent.glob("held_out_*"))[-1]
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    scratch = tmp_path / "scratch"
    with pytest.raises(StudyError, match=shard.name):
        world.collect(scratch, identity_sae(N_LATENTS, k=K))
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("rows_at_once", [1, 7, 1000])
def test_sequences_are_never_cut(world: World, rows_at_once: int) -> None:
    blocks = list(whole_sequences(world.cache, rows_at_once))
    contexts = [set(block.contexts.tolist()) for block in blocks]
    assert sum(map(len, contexts)) == len(set().union(*contexts)) == len(world.contexts)
    assert torch.equal(torch.cat([block.activations for block in blocks]), world.activations)


def test_ten_times_the_tokens_take_the_same_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The smaller run is to fill every buffer of fixed size, too; scipy is to be imported already.
    monkeypatch.setattr("glossogenesis.features.firing._AT_LEAST_WAITING", 4096)
    monkeypatch.setattr("glossogenesis.features.examples._AT_LEAST_WAITING", 256)
    importlib.import_module("scipy.cluster.hierarchy")
    peaks, firings = [], []
    for times in (1, 10):
        folder = tmp_path / str(times)
        generator = np.random.default_rng(0)
        contexts = generator.integers(1, len(VOCABULARY), (128 * times, 64)).tolist()
        corpus = write_corpus(folder / "corpus", contexts)
        activations = torch.randn(128 * times * 64, 16, generator=torch.Generator().manual_seed(0))
        cache = write_cache(folder / "cache", corpus, activations, contexts_a_shard=32)
        sae = identity_sae(16, k=4)
        few = rules(language={"examples": 5, "threshold": 0.5})
        tracemalloc.start()
        features = collect_features(sae, cache, corpus, few, embedding_of, scratch=tmp_path)
        for _ in features.example_parts():
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert features.statistics["examples"].min() >= 5
        firings.append(int(features.firings.counts.firings.sum()))
        # A token with fewer than k positive latents is padded.
        assert features.firings.bytes_a_latent == pytest.approx(4, abs=0.05)
    assert firings[1] > 9 * firings[0]
    assert peaks[1] <= 1.2 * peaks[0]
