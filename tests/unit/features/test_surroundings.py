"""Text around activating tokens, from the corpus that activations were taken from."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

from glossogenesis.exceptions import StudyError
from glossogenesis.features.collection import collect_features, write_examples
from glossogenesis.features.examples import examples_in_parts
from glossogenesis.features.language import token_languages
from glossogenesis.storage.tables import read_provenance, read_table
from support.feature_world import N_LATENTS, K, World, embedding_of, rules
from support.planted_features import (
    ORIGIN,
    SCRIPTS,
    identity_sae,
    random_contexts,
    write_cache,
    write_corpus,
)


def test_surroundings_stay_in_the_document(tmp_path: Path) -> None:
    cat, dog, red, neko = 1, 2, 3, 5
    corpus = write_corpus(
        tmp_path / "corpus", [[cat, dog, red, neko, cat]], documents=[[0, 0, 0, 1, 1]]
    )
    activations = torch.zeros(5, 2)
    activations[1, 0], activations[4, 1] = 1.0, 2.0
    cache = write_cache(tmp_path / "cache", corpus, activations)
    features = collect_features(
        identity_sae(2, k=1), cache, corpus, rules(), embedding_of, scratch=tmp_path
    )
    (table,) = features.example_parts()
    assert table.select("before", "token", "after", "document", "token_language").rows() == [
        (" cat", " dog", " red", 0, "en"),
        ("猫", " cat", "", 1, "en"),
    ]


def test_characters_of_several_tokens_are_whole(tmp_path: Path) -> None:
    cat = "猫".encode()
    vocabulary = [b"", cat[:1], cat[1:], b"!"]
    corpus = write_corpus(tmp_path / "corpus", [[1, 2, 3, 1, 2]], vocabulary=vocabulary)
    activations = torch.zeros(5, 1)
    activations[2, 0] = 1.0
    cache = write_cache(tmp_path / "cache", corpus, activations)
    features = collect_features(
        identity_sae(1, k=1), cache, corpus, rules(), embedding_of, scratch=tmp_path
    )
    (table,) = features.example_parts()
    assert table.select("before", "token", "after").row(0) == ("猫", "!", "猫")


def test_a_corpus_that_is_another(world: World, tmp_path: Path) -> None:
    other = write_corpus(tmp_path / "corpus", random_contexts(40, 9, seed=5))
    features = collect_features(
        identity_sae(N_LATENTS, k=K), world.cache, other, rules(), embedding_of, scratch=tmp_path
    )
    with pytest.raises(StudyError, match=r"corpus: holds other tokens .*extract_activations"):
        list(features.example_parts())
    russian = write_corpus(tmp_path / "ru", [[1]], languages=("en", "ru"))
    with pytest.raises(StudyError, match=r"its languages is \('en', 'ja'\), but .*ru"):
        collect_features(
            identity_sae(N_LATENTS, k=K), world.cache, russian, rules(), embedding_of,
            scratch=tmp_path,
        )  # fmt: skip


def test_examples_are_written_in_parts(world: World, tmp_path: Path) -> None:
    features = world.collect(tmp_path, identity_sae(N_LATENTS, k=K))
    (whole,) = features.example_parts()
    examples = features.firings.examples[0.7]
    languages = token_languages("script", examples, world.corpus, SCRIPTS)
    parts = list(examples_in_parts(examples, languages, world.corpus, examples_at_once=100))
    assert len(parts) == 4
    assert pl.concat(parts).equals(whole)
    path = tmp_path / "examples.parquet"
    write_examples(path, iter(parts), ORIGIN)
    assert read_table(path).equals(whole)
    assert read_provenance(path) == ORIGIN
    again = tmp_path / "again.parquet"
    write_examples(again, iter(parts), ORIGIN)
    assert again.read_bytes() == path.read_bytes()
