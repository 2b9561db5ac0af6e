"""From a classifier's activations to what is known of features and labels, counted plainly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from glossogenesis.corpora.posts import read_posts
from glossogenesis.exceptions import StudyError
from glossogenesis.robustness import label_features
from glossogenesis.robustness.label_features import (
    FiredTokens,
    LabelSums,
    PooledPosts,
    PostMeasures,
    pooled_posts,
    top_ratios,
)
from glossogenesis.robustness.label_tables import (
    FEATURES_SCHEMA,
    LABELS_SCHEMA,
    POST_FEATURES_SCHEMA,
    LabelFeatures,
    collect_label_features,
    posts_table,
)
from glossogenesis.sae.autoencoder import FiredLatents, SparseAutoencoder
from glossogenesis.study.robustness import POOLINGS, LabelFeatureSettings
from support.planted_features import VOCABULARY, identity_sae, write_cache, write_corpus
from support.planted_posts import PlantedPosts, plant_posts, write_posts
from support.tiny_saes import random_sae

LABELS = ("cars", "food", "pets")


def collect(planted: PlantedPosts, sae: SparseAutoencoder, **settings: object) -> LabelFeatures:
    defaults: dict[str, object] = {"shuffles": 3, "resamples": 5, "top": 2}
    return collect_label_features(
        sae,
        planted.cache,
        planted.corpus,
        planted.posts,
        LabelFeatureSettings.model_validate(defaults | settings),
        seed=0,
    )


def random_posts(
    folder: Path, labels: tuple[str, ...], d_model: int, *, train_labels: tuple[str, ...] = ()
) -> tuple[PlantedPosts, list[torch.Tensor]]:
    """Posts of 1 to 7 random tokens with random activations."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 8, (len(labels),), generator=generator).tolist()
    token_ids = [
        torch.randint(1, len(VOCABULARY), (length,), generator=generator).tolist()
        for length in lengths
    ]
    activations = [torch.randn(length, d_model, generator=generator) for length in lengths]
    planted = plant_posts(folder, labels, token_ids, activations, train_labels=train_labels)
    return planted, activations


def naive_d(pooled: NDArray[np.float64], is_label: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Cohen's d of every feature, of pooled activations [post, feature]."""
    groups = pooled[is_label], pooled[~is_label]
    squares = sum(((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in groups)
    deviation = np.sqrt(squares / (len(pooled) - 2))
    difference = groups[0].mean(axis=0) - groups[1].mean(axis=0)
    return np.divide(difference, deviation, out=np.zeros_like(deviation), where=deviation > 0)


@pytest.mark.parametrize("architecture", ["relu", "topk"])
def test_tables_are_what_dense_latents_give(
    tmp_path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few posts and tokens at a time that everything comes in several parts.
    monkeypatch.setattr(label_features, "_VALUES_AT_ONCE", 40)
    monkeypatch.setattr("glossogenesis.robustness.label_features.ROWS_AT_ONCE", 9)
    labels = tuple(np.random.default_rng(0).choice(LABELS, 31).tolist())
    planted, activations = random_posts(tmp_path, labels, 6)
    sae = random_sae(6, 16, architecture=architecture, k=3)
    found = collect(planted, sae, threshold=0.4, pooling="max", top=2)

    dense, errors, norms = [], [], []
    for x in activations:
        u = x / x.norm(dim=1, keepdim=True)
        before = (u - sae.b_dec) @ sae.w_enc.T + sae.b_enc
        latents = before.clamp_min(0)
        if architecture == "topk":
            least = latents.topk(3, dim=1).values[:, -1:]
            latents = torch.where(latents >= least, latents, 0)
        dense.append(latents.double().numpy())
        error = u - latents @ sae.w_dec - sae.b_dec
        errors.append(float(error.double().square().sum()))
        norms.append(float(u.double().square().sum()))
    pooled = {
        "mean": np.array([post.mean(axis=0) for post in dense]),
        "max": np.array([post.max(axis=0) for post in dense]),
        "last": np.array([post[-1] for post in dense]),
    }

    assert found.labels.schema == LABELS_SCHEMA
    assert found.labels.height == 16 * 3
    d = {}
    for label in LABELS:
        is_label = np.array(labels) == label
        rows = found.labels.filter(pl.col("label") == label)
        assert rows["feature"].to_list() == list(range(16))
        for pooling in POOLINGS:
            expected = naive_d(pooled[pooling], is_label)
            np.testing.assert_allclose(rows[f"d_{pooling}"], expected, rtol=1e-4, atol=1e-5)
        d[label] = rows["d_max"].to_numpy()
        np.testing.assert_allclose(rows["mean"], pooled["max"][is_label].mean(axis=0), rtol=1e-4)

    tokens = np.concatenate(dense)
    features = found.features
    assert features.schema == FEATURES_SCHEMA
    stacked = np.array([d[label] for label in LABELS])
    variety = (stacked > 0.4).sum(axis=0)
    assert features["variety"].to_list() == variety.tolist()
    assert features["top_label"].to_list() == [
        LABELS[best] if stacked[best, feature] > 0 else None
        for feature, best in enumerate(stacked.argmax(axis=0))
    ]
    np.testing.assert_allclose(features["firing_frequency"], (tokens > 0).mean(axis=0))
    np.testing.assert_allclose(features["post_frequency"], (pooled["max"] > 0).mean(axis=0))
    firings = (tokens > 0).sum(axis=0)
    means = np.divide(tokens.sum(axis=0), firings, where=firings > 0, out=np.full(16, np.nan))
    of_features = features["mean_activation"].cast(pl.Float64).fill_null(np.nan)
    np.testing.assert_allclose(of_features, means, rtol=1e-5)

    posts = found.posts
    assert posts.schema == POST_FEATURES_SCHEMA
    assert posts["number"].to_list() == list(range(31))
    assert posts["tokens"].to_list() == [len(post) for post in dense]
    assert posts["active"].to_list() == [int((post > 0).any(axis=0).sum()) for post in dense]
    np.testing.assert_allclose(posts["l0"], [(post > 0).sum(axis=1).mean() for post in dense])
    ratios = [
        np.mean([np.sort(token)[-2:].sum() / token.sum() for token in post if token.any()])
        for post in dense
    ]
    np.testing.assert_allclose(posts["top_ratio"], ratios, rtol=1e-5)
    np.testing.assert_allclose(posts["squared_error"], errors, rtol=1e-4)
    np.testing.assert_allclose(posts["squared_norm"], norms, rtol=1e-5)

    facts = found.facts
    specific, distinguishing = (variety == 1).sum(), (variety >= 1).sum()
    assert (facts["tokens"], facts["posts"], facts["latents"]) == (len(tokens), 31, 16)
    assert facts["l0"] == pytest.approx((tokens > 0).sum(axis=1).mean())
    assert facts["label_specific_share_counted"] == pytest.approx(specific / distinguishing)
    assert facts["mean_variety_counted"] == pytest.approx(variety.mean())
    seen = np.concatenate([x / x.norm(dim=1, keepdim=True) for x in activations])
    variance = ((seen - seen.mean(axis=0)) ** 2).sum()
    assert facts["explained_variance"] == pytest.approx(1 - sum(errors) / variance, rel=1e-3)


def planted_labels(folder: Path) -> PlantedPosts:
    """Feature 0 fires in posts on cars, 1 in those on food, 2 on both, 3 everywhere, 4 never."""
    generator = torch.Generator().manual_seed(0)
    labels = LABELS * 16
    token_ids, activations = [], []
    for label in labels:
        x = 0.5 + 0.1 * torch.rand(6, 5, generator=generator)
        x[:, 0] *= label == "cars"
        x[:, 1] *= label == "food"
        x[:, 2] *= label != "pets"
        x[:, 4] = -1
        token_ids.append([1 + len(token_ids) % 9] * 6)
        activations.append(x)
    return plant_posts(folder, labels, token_ids, activations)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_planted_features_belong_to_their_labels(tmp_path: Path, pooling: str) -> None:
    planted = planted_labels(tmp_path)
    found = collect(planted, identity_sae(5, k=5), pooling=pooling, threshold=1.5, shuffles=20)
    # Feature 2 is less of each of two labels than 0 and 1 are of one.
    assert found.features["variety"].to_list() == [1, 1, 0, 0, 0]
    top = found.features["top_label"].to_list()
    assert top[:2] == ["cars", "food"]
    assert top[2] in ("cars", "food")
    assert top[4] is None
    of_pets = found.labels.filter(pl.col("label") == "pets", pl.col("feature") < 3)
    assert (of_pets[f"d_{pooling}"] < 0).all()
    facts = found.facts
    assert (facts["specific"], facts["distinguishing"]) == (2, 2)
    assert (facts["label_specific_share_counted"], facts["mean_variety_counted"]) == (1.0, 0.4)
    assert facts["mean_variety_low"] <= facts["mean_variety"] <= facts["mean_variety_high"]
    assert facts["shuffled"]["mean_variety"] == 0
    assert facts["shuffled"]["label_specific_share"] is None
    assert facts["alive"] == 4
    cues = found.cues.filter(pl.col("rank") == 0, pl.col("label") != "pets")
    assert cues.select("label", "feature").rows() == [("cars", 0), ("food", 1)]


def test_labels_of_one_held_out_post_or_none(tmp_path: Path) -> None:
    labels = ("cars", "food", "food", "food", "food", "pets")
    planted, _ = random_posts(tmp_path, labels, 6, train_labels=("work",))
    assert planted.posts.labels == ("cars", "food", "pets", "work")
    found = collect(planted, random_sae(6, 12, architecture="relu"))
    without = found.labels.filter(pl.col("label") == "work")
    for pooling in POOLINGS:
        assert found.labels[f"d_{pooling}"].is_finite().all()
        assert (without[f"d_{pooling}"] == 0).all()
    assert without["mean"].null_count() == 12
    assert found.labels["mean"].null_count() == 12
    assert (found.labels.filter(pl.col("label") == "cars")["d_max"] != 0).any()
    assert set(found.cues["label"]) == {"cars", "food", "pets"}


def test_posts_all_of_one_label(tmp_path: Path) -> None:
    planted, _ = random_posts(tmp_path, ("cars",) * 5, 6)
    found = collect(planted, random_sae(6, 12, architecture="relu"))
    assert (found.labels["d_mean"] == 0).all()
    assert found.cues.height == 0
    assert found.facts["label_specific_share"] is None


def test_equal_posts_give_equal_tables_whatever_the_shards(tmp_path: Path) -> None:
    labels = LABELS * 4
    found = []
    for shards in (1, 5):
        generator = torch.Generator().manual_seed(3)
        x = [torch.randn(4, 6, generator=generator) for _ in labels]
        ids = [[1 + (number + place) % 9 for place in range(4)] for number in range(len(labels))]
        planted = plant_posts(tmp_path / str(shards), labels, ids, x, posts_a_shard=shards)
        found.append(collect(planted, random_sae(6, 12, architecture="relu")))
    for name in ("labels", "features", "cues", "posts"):
        assert getattr(found[0], name).equals(getattr(found[1], name))
    first, second = (each.facts for each in found)
    exact = ("shuffled", "label_specific_share_halves", "mean_variety_halves")
    for name in exact:
        assert first.pop(name) == second.pop(name)
    # The quality of reconstructions is summed up in another order.
    assert first == pytest.approx(second)


def test_pooling_of_tokens_in_which_nothing_fires() -> None:
    tokens = FiredTokens(
        rows=np.array([0, 0, 2, 5]),
        latents=np.array([1, 0, 1, 2]),
        values=np.array([4, 1, 2, 3], np.float32),
        starts=np.array([0, 2, 5, 6]),
        posts=np.array([3, 4, 9]),
    )
    (pooled,) = pooled_posts(tokens, 3)
    assert pooled.posts.tolist() == [3, 4, 9]
    third = pytest.approx(2 / 3)
    expected = {
        "mean": [[0.5, 2, 0], [0, third, 0], [0, 0, 3]],
        "max": [[1, 4, 0], [0, 2, 0], [0, 0, 3]],
        "last": [[0, 0, 0], [0, 0, 0], [0, 0, 3]],
    }
    assert {name: each.tolist() for name, each in pooled.by_pooling.items()} == expected


def test_a_post_without_tokens_has_no_activations() -> None:
    sums = LabelSums(np.array([0, 1, 1]), 2, 2, "max")
    values = np.array([[1, 0], [3, 2]], np.float32)
    sums.add(PooledPosts(np.array([0, 2]), dict.fromkeys(POOLINGS, values)))
    assert sums.of_posts().toarray().tolist() == [[1, 0], [0, 0], [3, 2]]
    assert sums.posts.tolist() == [1, 2]
    assert sums.sums["mean"].tolist() == [[1, 0], [3, 2]]
    measures = PostMeasures(3, top=1)
    assert measures.tokens.tolist() == [0, 0, 0]
    assert np.isnan(measures.l0).all()
    assert posts_table(measures)["l0"].null_count() == 3


def test_share_of_the_largest_latents() -> None:
    fired = FiredLatents(
        rows=torch.tensor([0, 0, 0, 2]),
        latents=torch.tensor([4, 5, 6, 1]),
        values=torch.tensor([1.0, 3.0, 4.0, 0.5]),
        n_rows=3,
    )
    counts, ratios = top_ratios(fired, 2)
    assert counts.tolist() == [3, 0, 1]
    np.testing.assert_allclose(ratios, [7 / 8, np.nan, 1])
    assert top_ratios(fired, 20)[1][[0, 2]].tolist() == [1, 1]


def test_inputs_that_do_not_belong_together(tmp_path: Path) -> None:
    planted, _ = random_posts(tmp_path, LABELS * 2, 6)
    sae = random_sae(6, 12)
    write_posts(tmp_path / "fewer.parquet", LABELS, LABELS)
    fewer = PlantedPosts(planted.cache, planted.corpus, read_posts(tmp_path / "fewer.parquet"))
    with pytest.raises(StudyError, match=r"fewer.parquet: has 3 held-out posts, but .* has 6; rem"):
        collect(fewer, sae)
    packed = write_corpus(tmp_path / "packed", [[1, 2]] * 6, [[0, 0], [0, 1], *[[1, 1]] * 4])
    other, _ = random_posts(tmp_path / "other", LABELS * 2, 6)
    cache = write_cache(tmp_path / "packed_cache", packed, torch.randn(12, 6))
    with pytest.raises(StudyError, match="are not those of 6 posts, one a context; remake them"):
        collect(PlantedPosts(cache, other.corpus, other.posts), sae)
