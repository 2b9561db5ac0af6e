"""Training while the model runs gives the weights that training from a cache gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.residuals import residual_windows
from glossogenesis.sae.files import WEIGHTS_FILE, read_sae
from glossogenesis.sae.jobs import (
    CachedTraining,
    StreamedTraining,
    train_from_cache,
    train_from_model,
)
from glossogenesis.sae.training import TrainingRun
from glossogenesis.storage.activations.cache import ActivationCache, CacheDescription
from glossogenesis.storage.activations.writer import CacheWriter
from glossogenesis.storage.provenance import Provenance
from glossogenesis.study.features import SaeTraining
from support.bar_clock import lines_of
from support.tiny_corpus import CONTEXT, tiny_corpus
from support.tiny_models import D_MODEL, tiny_anatomy

LAYERS = (1, 3)
WINDOW_SEED = 5
ORIGIN = Provenance("activations", "a-study", {}, {}, "", seed=WINDOW_SEED)
PROVENANCE = Provenance("sae", "a-study", {}, {}, "", model="tiny", checkpoint="100")
SETTINGS = SaeTraining(
    latents=48,
    k=3,
    batch_size=25,
    epochs=2,
    learning_rates=(1e-2, 1e-3),
    decay_share=0.2,
)


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return tiny_anatomy("llama")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> TokenisedCorpus:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def caches(
    anatomy: Anatomy, corpus: TokenisedCorpus, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, ActivationCache]:
    return extract(anatomy, corpus, tmp_path_factory.mktemp("caches"))


def extract(anatomy: Anatomy, corpus: TokenisedCorpus, folder: Path) -> dict[int, ActivationCache]:
    descriptions = {
        layer: CacheDescription(
            model="tiny",
            checkpoint="100",
            corpus="tiny",
            layer=layer,
            hook=f"model.layers.{layer}",
            d_model=D_MODEL,
            dtype="bfloat16",
            languages=corpus.languages,
            context=CONTEXT,
            window=60,
            source="a/folder",
            revision=None,
            tokenizer_digest="0",
        )
        for layer in LAYERS
    }
    provenances = {layer: replace(ORIGIN, layer=layer) for layer in LAYERS}
    with CacheWriter(folder, descriptions, provenances) as writer:
        for split in ("train", "held_out"):
            for window in residual_windows(
                anatomy,
                corpus,
                split,
                LAYERS,
                window=60,
                seed=WINDOW_SEED,
                batch_size=4,
                dtype="bfloat16",
                not_finite="stop",
            ):
                rows = {layer: window.rows_of(layer) for layer in LAYERS}
                writer.add(split, window.number, rows, 0)
        return {cache.layer: cache for cache in writer.finish()}


def streamed(
    folder: Path, caches: dict[int, ActivationCache], settings: SaeTraining = SETTINGS
) -> StreamedTraining:
    return StreamedTraining(
        settings=settings,
        seed=0,
        caches=caches,
        not_finite="stop",
        batch_size=4,
        warm_starts={},
        folders={layer: folder / f"layer_{layer}" / "main" for layer in caches},
        resume_folder=folder / "resume",
        on_diverged="leave_out",
    )


def assert_equal_weights(one: Path, other: Path) -> None:
    first, second = read_sae(one), read_sae(other)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, second.get_parameter(name)), name
    tables = [pl.read_parquet(folder / "training.parquet") for folder in (one, other)]
    assert tables[0].equals(tables[1])


def test_weights_are_those_of_training_from_a_cache(
    tmp_path: Path,
    anatomy: Anatomy,
    corpus: TokenisedCorpus,
    caches: dict[int, ActivationCache],
) -> None:
    assert len(caches[1].rows_of_shards("train")) > 2
    train_from_model(streamed(tmp_path / "stream", caches), anatomy, corpus, PROVENANCE)
    for layer in LAYERS:
        folder = tmp_path / "cache" / f"layer_{layer}" / "main"
        job = CachedTraining(
            settings=SETTINGS,
            seed=0,
            cache=caches[layer],
            warm_start=None,
            folder=folder,
            resume_folder=tmp_path / "resume",
            provenance=PROVENANCE,
            on_diverged="leave_out",
        )
        train_from_cache(job, device="cpu")
        assert_equal_weights(folder, tmp_path / "stream" / f"layer_{layer}" / "main")


@pytest.mark.parametrize("last", [1, 4, 9])
def test_an_interrupted_run_goes_on_without_the_windows_that_it_is_done_with(
    tmp_path: Path,
    anatomy: Anatomy,
    corpus: TokenisedCorpus,
    caches: dict[int, ActivationCache],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    last: int,
) -> None:
    train_from_model(streamed(tmp_path / "whole", caches), anatomy, corpus, PROVENANCE)
    step = TrainingRun.step

    def stop(run: TrainingRun, batch: Any) -> None:
        if run.steps_done == last:
            raise KeyboardInterrupt
        step(run, batch)

    monkeypatch.setattr(TrainingRun, "step", stop)
    job = streamed(tmp_path / "cut", caches)
    with pytest.raises(KeyboardInterrupt):
        train_from_model(job, anatomy, corpus, PROVENANCE, seconds_between_states=0)
    monkeypatch.setattr(TrainingRun, "step", step)
    seen: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        for window in residual_windows(*arguments, **options):
            seen.append(window.number)
            yield window

    monkeypatch.setattr("glossogenesis.sae.jobs.residual_windows", counted)
    capsys.readouterr()
    train_from_model(job, anatomy, corpus, PROVENANCE)
    percentages = [percent for percent, _, _ in lines_of(capsys.readouterr().err, "layers 1 to 3")]
    assert percentages[0] > 0
    assert percentages[-1] == 100
    windows = len(caches[1].rows_of_shards("train"))
    assert len(seen) <= 2 * windows - (last * SETTINGS.batch_size) // 60
    for layer in LAYERS:
        name = f"layer_{layer}/main"
        assert_equal_weights(tmp_path / "whole" / name, tmp_path / "cut" / name)
    assert not (tmp_path / "cut" / "resume").exists()


def test_a_warm_start_takes_each_layer_from_its_own(
    tmp_path: Path,
    anatomy: Anatomy,
    corpus: TokenisedCorpus,
    caches: dict[int, ActivationCache],
) -> None:
    train_from_model(streamed(tmp_path / "first", caches), anatomy, corpus, PROVENANCE)
    still = SETTINGS.model_copy(update={"learning_rates": (1e-12,), "epochs": 1})
    warm_starts = {
        layer: tmp_path / "first" / f"layer_{layer}" / "main" / WEIGHTS_FILE for layer in LAYERS
    }
    job = replace(streamed(tmp_path / "second", caches, still), warm_starts=warm_starts)
    train_from_model(job, anatomy, corpus, PROVENANCE)
    for layer in LAYERS:
        name = f"layer_{layer}/main"
        first, second = read_sae(tmp_path / "first" / name), read_sae(tmp_path / "second" / name)
        assert torch.allclose(first.w_enc, second.w_enc, atol=1e-6)


def test_too_few_tokens_for_a_batch_are_refused(
    tmp_path: Path,
    anatomy: Anatomy,
    corpus: TokenisedCorpus,
    caches: dict[int, ActivationCache],
) -> None:
    settings = SETTINGS.model_copy(update={"batch_size": 4096})
    with pytest.raises(StudyError, match=r"layer 1: .* training tokens do not fill one batch"):
        train_from_model(streamed(tmp_path, caches, settings), anatomy, corpus, PROVENANCE)
