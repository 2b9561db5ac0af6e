"""Cues: strongest activations of a stream, and the tokens and words that they are on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from glossogenesis.corpora.posts import Posts
from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.cues import (
    ACTIVATION,
    CUES_SCHEMA,
    StrongestActivations,
    cues_of,
    cues_table,
)
from glossogenesis.robustness.label_tables import collect_label_features
from glossogenesis.study.robustness import LabelFeatureSettings
from support.planted_features import identity_sae, write_corpus
from support.planted_posts import plant_posts

# A camera in three tokens that cut its characters, one in which it is whole, and filler.
CAMERA = "カメラ".encode()
PIECES = [b"", CAMERA[:2], CAMERA[2:7], CAMERA[7:], CAMERA, "の".encode(), "。".encode(), b" Film"]
PARTS = [1, 2, 3]
WHOLE, FILLER, STOP, FILM = 4, 5, 6, 7


def test_strongest_activations_are_those_of_sorting_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("glossogenesis.robustness.cues._AT_LEAST_WAITING", 64)
    generator = np.random.default_rng(0)
    n_latents, number = 7, 5
    strongest = StrongestActivations(n_latents, number)
    stream = []
    for block in range(40):
        size = int(generator.integers(0, 30))
        # Feature 6 fires rarely; few values, so that many are equal.
        features = generator.choice(n_latents, size, p=[0.2] * 3 + [0.132] * 3 + [0.004])
        values = generator.integers(1, 9, size).astype(np.float32)
        places = np.arange(size, dtype=np.int32)
        posts = np.full(size, block, np.int32)
        strongest.add(features, values, posts, places, places + 100)
        given = (features, -values, posts, places)
        stream += zip(*(each.tolist() for each in given), strict=True)
    found = strongest.of_features(range(n_latents))
    for feature in range(n_latents):
        # Greatest first; of equal ones those that come first.
        expected = sorted(each[1:] for each in stream if each[0] == feature)[:number]
        activations = found[feature]
        assert activations.dtype == ACTIVATION
        columns = (-activations["value"], activations["post"], activations["column"])
        assert list(zip(*(each.tolist() for each in columns), strict=True)) == expected
        assert (activations["token_id"] == activations["column"] + 100).all()
    assert 0 < len(found[6]) < number


def activations_on(places: list[tuple[int, int, int]]) -> np.ndarray:
    """Activations of one feature: post, column and token id of each."""
    rows = [(0, 1.0, *place) for place in places]
    return np.array(rows, ACTIVATION)


def test_tokens_and_surface_forms_are_counted(tmp_path: Path) -> None:
    corpus = write_corpus(
        tmp_path, [[FILLER, *PARTS, STOP], [WHOLE, FILLER, FILM]], vocabulary=PIECES
    )
    activations = {
        3: activations_on([(0, 1, 1), (0, 2, 2), (0, 3, 3), (1, 0, WHOLE), (1, 2, FILM)]),
        5: activations_on([(0, 0, FILLER), (1, 1, FILLER), (0, 4, STOP)]),
    }
    cues = cues_of(activations, corpus, "held_out")
    # Four different tokens say camera, and one says film.
    assert cues[3].n == 5
    assert cues[3].token_counts == [(1, 1), (2, 1), (3, 1), (WHOLE, 1), (FILM, 1)]
    assert cues[3].surface_counts == [("カメラ", 4), ("film", 1)]
    assert cues[5].token_counts == [(FILLER, 2), (STOP, 1)]
    d = np.array([[0, 0, 0, 1.5, 0, 2.5]], np.float32)
    table = cues_table(["cars"], [np.array([5, 3])], d, cues, corpus.vocabulary())
    assert table.schema == CUES_SCHEMA
    first, second = table.rows(named=True)
    assert (first["label"], first["rank"], first["feature"], first["d"]) == ("cars", 0, 5, 2.5)
    assert (first["top_token_id"], first["top_token"]) == (FILLER, "の")
    assert (first["top_token_share"], first["unique_tokens"]) == (2 / 3, 2)
    assert (second["rank"], second["n"], second["unique_tokens"]) == (1, 5, 5)
    assert (second["top_surface"], second["top_surface_share"]) == ("カメラ", 4 / 5)
    assert (second["surfaces"], second["counts"]) == (["カメラ", "film"], [4, 1])


def test_at_most_five_surface_forms_are_named(tmp_path: Path) -> None:
    words = [f" w{number}".encode() for number in range(8)]
    corpus = write_corpus(tmp_path, [[*range(8), 7]], vocabulary=words)
    places = [(0, column, min(column, 7)) for column in range(9)]
    cues = cues_of({0: activations_on(places)}, corpus, "held_out")
    row = cues[0].row(corpus.vocabulary())
    assert row["unique_surfaces"] == 8
    assert row["surfaces"] == ["w7", "w0", "w1", "w2", "w3"]
    assert row["counts"] == [2, 1, 1, 1, 1]


def test_activations_of_another_corpus(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, [[FILLER, STOP]], vocabulary=PIECES)
    for place in ((0, 1, FILLER), (0, 2, STOP)):
        with pytest.raises(StudyError, match="holds other tokens than the activations were taken"):
            cues_of({0: activations_on([place])}, corpus, "held_out")


def test_no_feature_at_all(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, [[FILLER]], vocabulary=PIECES)
    assert cues_of({}, corpus, "held_out") == {}
    empty = np.empty(0, np.int64)
    table = cues_table(["a"], [empty], np.zeros((1, 3), np.float32), {}, corpus.vocabulary())
    assert table.schema == CUES_SCHEMA
    assert table.height == 0


@pytest.mark.parametrize("strongest", [6, 4])
def test_cues_of_a_planted_feature(tmp_path: Path, strongest: int) -> None:
    """Feature 0 fires on cameras, most strongly where the token is whole; feature 1 everywhere."""
    labels, token_ids, activations = [], [], []
    for number in range(8):
        on_cameras = number % 2 == 0
        ids = (
            [FILLER, *(PARTS if number in (0, 4) else [WHOLE]), STOP] if on_cameras else [STOP] * 3
        )
        x = torch.zeros(len(ids), 2)
        x[:, 1] = 1 + 0.1 * number
        for place, token in enumerate(ids):
            # 0 and 4 have the camera in three parts: two whole ones and six parts in all.
            x[place, 0] = {WHOLE: 9.0, 1: 3.0, 2: 2.0, 3: 1.0}.get(token, 0.0)
        labels.append("photo" if on_cameras else "cooking")
        token_ids.append(ids)
        activations.append(x)
    planted = plant_posts(tmp_path, labels, token_ids, activations, vocabulary=PIECES)
    settings = LabelFeatureSettings(strongest=strongest, top=1, shuffles=0, resamples=2)
    posts: Posts = planted.posts
    found = collect_label_features(
        identity_sae(2, k=2), planted.cache, planted.corpus, posts, settings, seed=0
    )
    cue = found.cues.row(by_predicate=pl.col("label") == "photo", named=True)
    assert (cue["feature"], cue["rank"], cue["n"]) == (0, 0, strongest)
    # Strongest: two whole cameras, two first parts, then two second parts.
    assert (cue["top_token_id"], cue["top_token"]) == (1, "�")
    assert cue["unique_tokens"] == strongest // 2
    assert cue["top_token_share"] == 2 / strongest
    assert (cue["top_surface"], cue["top_surface_share"]) == ("カメラ", 1)
    assert cue["unique_surfaces"] == 1
