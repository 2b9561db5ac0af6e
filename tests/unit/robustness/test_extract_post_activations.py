"""The program that writes a classifier's activation caches, on a tiny classifier and posts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import extract_post_activations
from glossogenesis.corpora.tokenised import TokenisedCorpus, post_token_ids
from glossogenesis.exceptions import StudyError
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.storage.activations.cache import ActivationCache
from support.program_runs import ON_CPU, run_main
from support.tiny_checkpoint import save_tiny_checkpoint, write_manifest
from support.tiny_corpus import tiny_corpus
from support.tiny_models import tiny_config

LAYERS = [1, 3]
SPLITS = ("train", "held_out")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Manifests of a classifier of three labels and of posts, one a context."""
    folder = tmp_path_factory.mktemp("inputs")
    weights = save_tiny_checkpoint(folder / "weights")
    torch.manual_seed(0)
    classifier = AutoModelForSequenceClassification.from_config(tiny_config("llama", num_labels=3))
    classifier.save_pretrained(weights)
    manifest = write_manifest(folder / "classifier.json", weights, source="classifier")
    tiny_corpus(folder / "posts", tokenizer_digest=manifest.tokenizer_digest)
    return {
        "classifier": folder / "classifier.json",
        "corpus": folder / "posts" / "manifest.json",
    }


@pytest.fixture
def extract(inputs: dict[str, Path], tmp_path: Path) -> Any:
    """Runs the program into `tmp_path`; `changes` are of the section `robustness.activations`."""

    def run(layers: list[int] = LAYERS, paths: Any = inputs, **changes: Any) -> None:
        activations = {"positions": "all", "dtype": "float32", "window": 40, "not_finite": "stop"}
        settings = {
            "layers": layers,
            "dtype": "float32",
            "seed": 0,
            "activations": activations | changes,
        }
        run_main(
            extract_post_activations, settings, **paths, **ON_CPU, batch_size=4, output=tmp_path
        )

    return run


def open_layer(folder: Path, layer: int) -> ActivationCache:
    return ActivationCache.open(folder / f"layer_{layer}" / "manifest.json")


def rows_of(cache: ActivationCache, split: str) -> dict[str, torch.Tensor]:
    """All rows of a split, in stored order."""
    shards = [shard.tensors for shard in cache.shards(split)]
    return {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}


def hidden_states(inputs: dict[str, Path], token_ids: list[int], layer: int) -> torch.Tensor:
    """What transformers says of one post without padding, `[position, d_model]`."""
    folder = CheckpointManifest.read(inputs["classifier"]).folder
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    seen: list[torch.Tensor] = []
    handle = model.model.layers[layer].register_forward_hook(
        lambda module, given, output: seen.append(output)
    )
    with torch.inference_mode():
        model(input_ids=torch.tensor([token_ids]))
    handle.remove()
    return seen[0][0]


def test_writes_a_cache_a_layer_of_the_classifiers_own_states(
    extract: Any, inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract()
    corpus = TokenisedCorpus.read(inputs["corpus"])
    posts = post_token_ids(corpus, "held_out")
    for layer in LAYERS:
        cache = open_layer(tmp_path, layer)
        assert (cache.model, cache.checkpoint, cache.corpus) == ("tiny", "step1", "tiny")
        assert (cache.layer, cache.hook) == (layer, f"model.layers.{layer}")
        assert cache.source == CheckpointManifest.read(inputs["classifier"]).folder
        assert cache.tokenizer_digest == corpus.tokenizer_digest
        assert cache.provenance["inputs"].keys() == {"classifier", "corpus"}
        assert cache.rows_in("held_out") == sum(corpus.facts("held_out").tokens.values())
        rows = rows_of(cache, "held_out")
        for number in (0, 3):
            states = hidden_states(inputs, posts[number], layer)
            here = rows["documents"] == number
            # The first token of a context of this corpus is not kept.
            assert rows["token_ids"][here].tolist() == posts[number][1:]
            torch.testing.assert_close(rows["activations"][here], states[1:], atol=1e-5, rtol=1e-4)
    assert "2 layers, tokens of each: " in capsys.readouterr().out


def test_held_out_posts_come_in_order_and_training_tokens_shuffled(
    extract: Any, tmp_path: Path
) -> None:
    extract(LAYERS[:1], window=10**6)
    cache = open_layer(tmp_path, LAYERS[0])
    in_order = {}
    for split in SPLITS:
        documents = rows_of(cache, split)["documents"]
        in_order[split] = bool((documents.diff() >= 0).all())
    assert in_order == {"train": False, "held_out": True}


@pytest.mark.parametrize("window", [5, 10**6])
def test_only_the_last_token_of_each_post(
    extract: Any, inputs: dict[str, Path], tmp_path: Path, window: int
) -> None:
    extract(positions="last", window=window)
    corpus = TokenisedCorpus.read(inputs["corpus"])
    for split in SPLITS:
        posts = post_token_ids(corpus, split)
        cache = open_layer(tmp_path, LAYERS[1])
        rows = rows_of(cache, split)
        assert cache.rows_in(split) == len(posts)
        assert sorted(rows["documents"].tolist()) == list(range(len(posts)))
        for row, number in enumerate(rows["documents"].tolist()):
            assert rows["columns"][row] == len(posts[number]) - 1
            assert rows["token_ids"][row] == posts[number][-1]
    states = hidden_states(inputs, posts[2], LAYERS[1])
    torch.testing.assert_close(rows["activations"][2], states[-1], atol=1e-5, rtol=1e-4)


def test_another_layer_leaves_the_caches_of_the_others_as_they_are(
    extract: Any, tmp_path: Path
) -> None:
    def contents() -> dict[str, bytes]:
        files = (path for path in sorted(tmp_path.rglob("*")) if path.is_file())
        return {str(path.relative_to(tmp_path)): path.read_bytes() for path in files}

    extract([1])
    before = contents()
    extract([0, 1])
    after = contents()
    assert {name: after[name] for name in before} == before
    assert len(after) == 2 * len(before)


def test_posts_of_another_tokenizer(extract: Any, inputs: dict[str, Path], tmp_path: Path) -> None:
    other = replace(CheckpointManifest.read(inputs["classifier"]), tokenizer_digest="other")
    other.write(tmp_path / "other.json")
    with pytest.raises(StudyError, match="tokenised by another tokenizer than that of tiny step1"):
        extract(paths=inputs | {"classifier": tmp_path / "other.json"})
    assert not list(tmp_path.glob("layer_*"))


def test_states_that_are_not_finite_name_the_setting(
    extract: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = extract_post_activations.load_model

    def broken(*given: Any, **options: Any) -> Any:
        loaded = load(*given, **options)
        loaded.model.model.layers[2].mlp.down_proj.weight.fill_(torch.nan)
        return loaded

    monkeypatch.setattr(extract_post_activations, "load_model", broken)
    with pytest.raises(StudyError) as error:
        extract()
    message = str(error.value)
    assert "classifier tiny step1, held_out split: activations of layer 3 are NaN" in message
    assert "`robustness.activations.not_finite: drop`" in message
