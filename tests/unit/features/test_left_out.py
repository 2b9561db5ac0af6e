"""A diverged checkpoint costs itself: the features study goes on without it, and names it."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM

import collect_features
import compare_seeds
import extract_activations
import extract_embeddings
import inject_features
import match_features
import measure_quality
import measure_recovery
import plot_figures
import stream_saes
import tabulate_features
import tabulate_injection
import tabulate_tracking
import train_saes
from glossogenesis.exceptions import StudyError
from glossogenesis.inspection.page import inspect_path
from glossogenesis.models.checkpoints import CheckpointLocation
from glossogenesis.models.manifest import describe_checkpoint
from glossogenesis.storage.tables import read_provenance, read_table
from glossogenesis.study.loading import load_study
from glossogenesis.workflow import jobs_features
from glossogenesis.workflow.preflight import left_out
from glossogenesis.workflow.verification import verify
from support.program_runs import ON_CPU, run_main
from support.tiny_checkpoint import save_tiny_checkpoint
from support.tiny_corpus import tiny_corpus
from support.tiny_features_study import tiny_features_study

CHECKPOINTS = ("early", "middle", "late")
LAYERS = (1, 2)
FIGURES = ("sae_quality", "feature_tracking", "injection")
SAES = ("topk", "topk.seed1")
SAE = {
    "latents": 32,
    "k": 4,
    "seeds": [0, 1],
    "learning_rates": [1e-3],
    "batch_size": 16,
    "warmup_steps": 0,
}


def with_nan(folder: Path, layer: int = 1) -> None:
    """One NaN in a weight of a layer."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.model.layers[layer].mlp.up_proj.weight.data[3, 3] = torch.nan
    model.save_pretrained(folder)


class Run:
    """The features study over three checkpoints, by its programs."""

    def __init__(self, folder: Path, *, mode: str = "cache", **changes: Any) -> None:
        def change(content: dict[str, Any]) -> None:
            content["models"]["local"] |= {"n_layers": 4, "layers": list(LAYERS)}
            content["features"] |= {
                "models": ["local"],
                "saes": {"topk": SAE},
                "activations": {"mode": mode, "window": 40},
                "language": {"examples": 2},
                "recovery": {"contexts": 2},
                "injection": {"model": "local", "layers": [2], "draws": 1, "contexts": 2},
                "resamples": 100,
                **changes,
            }

        self.folder = folder
        self.results = folder / "results"
        tiny_features_study(folder, change)
        sheet = folder / "sheet.tsv"
        late = "local\tlate\t20"
        middle = "local\tmiddle\t15\t\t1\t./weights/middle\t\t"
        rows = sheet.read_text(encoding="utf-8").replace(late, f"{middle}\n{late}")
        sheet.write_text(rows, encoding="utf-8")
        self.study = load_study(folder / "study.yaml")
        weights = save_tiny_checkpoint(folder / "weights" / "early")
        for name in CHECKPOINTS[1:]:
            shutil.copytree(weights, folder / "weights" / name)

    def checkpoint(self, name: str) -> Path:
        return self.results / "checkpoints" / "local" / name / "manifest.json"

    def activations(self, name: str) -> list[Path]:
        folder = self.results / "activations" / "local" / name / "text"
        return [folder / f"layer_{layer}" / "manifest.json" for layer in LAYERS]

    def files(self, stage: str, checkpoint: str, file: str, sae: str = "topk") -> list[Path]:
        folder = self.results / stage / "local" / checkpoint
        return [folder / f"layer_{layer}" / sae / file for layer in LAYERS]

    def weights(self, checkpoint: str, sae: str = "topk") -> list[Path]:
        return self.files("sae", checkpoint, "sae_weights.safetensors", sae)

    def tabulated(self) -> dict[str, pl.DataFrame]:
        """Run every program, in the order of the workflow, and read the tables."""
        self.take_up()
        for name in CHECKPOINTS:
            self.train(name)
            self.measure(name)
        for earlier, name in pairwise(CHECKPOINTS):
            run_main(
                match_features,
                jobs_features.matching_settings(self.study),
                saes=self.weights(name),
                statistics=self.files("features", name, "statistics.parquet"),
                earlier_saes=self.weights(earlier),
                earlier_statistics=self.files("features", earlier, "statistics.parquet"),
                output=self.files("tracking", name, "matches.parquet"),
            )
        for name in jobs_features.injection_targets(self.study):
            self.inject(name)
        return self.tables()

    def take_up(self) -> None:
        for name in CHECKPOINTS:
            manifest = describe_checkpoint(
                CheckpointLocation(str(self.folder / "weights" / name)),
                model="local",
                checkpoint=name,
                source=name,
                provenance={},
            )
            manifest.write(self.checkpoint(name))
        tiny_corpus(self.folder / "corpus", tokenizer_digest=manifest.tokenizer_digest)
        self.corpus = self.folder / "corpus" / "manifest.json"
        self.embeddings = self.results / "embeddings" / "local" / "tokens.safetensors"
        settings = jobs_features.embeddings_settings(self.study, "local")
        checkpoint = self.checkpoint("late")
        run_main(extract_embeddings, settings, checkpoint=checkpoint, output=self.embeddings)

    def train(self, name: str) -> None:
        activations = self.activations(name)
        model = {"checkpoint": self.checkpoint(name), "corpus": self.corpus, "batch_size": 4}
        run_main(
            extract_activations,
            jobs_features.activations_settings(self.study, "local"),
            output=activations[0].parents[1],
            **ON_CPU | model,
        )
        is_streamed = self.study.features.activations.mode == "stream"
        for sae in SAES:
            run_main(
                stream_saes if is_streamed else train_saes,
                jobs_features.training_settings(self.study, "local", sae),
                activations=activations,
                resume_dir=self.folder / "resume",
                output=self.weights(name, sae),
                **ON_CPU | (model if is_streamed else {}),
            )

    def measure(self, name: str) -> None:
        activations = self.activations(name)
        for sae in SAES:
            run_main(
                measure_quality,
                {},
                activations=activations,
                saes=self.weights(name, sae),
                output=self.files("sae", name, "quality.json", sae),
                **ON_CPU,
            )
        run_main(
            measure_recovery,
            jobs_features.recovery_settings(self.study, "local", "topk"),
            checkpoint=self.checkpoint(name),
            corpus=self.corpus,
            saes=self.results / "sae" / "local" / name,
            batch_size=4,
            output=self.results / "recovery" / "local" / name / "topk.parquet",
            **ON_CPU,
        )
        both = [
            path
            for of_layer in zip(*(self.weights(name, sae) for sae in SAES), strict=True)
            for path in of_layer
        ]
        run_main(compare_seeds, {}, saes=both, output=self.files("tracking", name, "seeds.parquet"))
        run_main(
            collect_features,
            jobs_features.collection_settings(self.study),
            activations=activations,
            corpus=self.corpus,
            saes=self.weights(name),
            embeddings=self.embeddings,
            output=self.files("features", name, "statistics.parquet"),
            examples=self.files("features", name, "examples.parquet"),
            sensitivity_tables=self.files("features", name, "sensitivity.parquet"),
            **ON_CPU,
        )

    def inject(self, name: str) -> None:
        source = jobs_features.injection_source(self.study)
        folder = self.results / "injection" / "local" / name
        run_main(
            inject_features,
            jobs_features.injection_settings(self.study),
            source=self.checkpoint(source),
            target=self.checkpoint(name),
            saes=self.results / "sae" / "local" / source,
            sae="topk",
            statistics=self.results / "features" / "local" / source,
            corpus=self.corpus,
            batch_size=4,
            output=folder / "perplexity.parquet",
            translation_output=folder / "translation.parquet",
            **ON_CPU,
        )

    def tables(self) -> dict[str, pl.DataFrame]:
        folder = self.results / "tables"
        for program, settings in (
            (tabulate_features, jobs_features.feature_table_settings(self.study)),
            (tabulate_tracking, jobs_features.tracking_table_settings(self.study)),
            (tabulate_injection, jobs_features.injection_table_settings(self.study)),
        ):
            sheet = self.folder / "sheet.tsv"
            run_main(program, settings, sheet=sheet, results=self.results, output=folder)
        run_main(
            plot_figures,
            jobs_features.feature_figure_settings(self.study),
            study=None,
            tables=sorted(folder.glob("*.parquet")),
            output=[self.results / "figures" / "local" / f"{name}.svg" for name in FIGURES],
        )
        paths = sorted(folder.glob("*.parquet"))
        return {path.stem.removeprefix("features_"): read_table(path) for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["cache", "stream"])
def test_the_others_are_tabulated_and_the_missing_one_is_named(tmp_path: Path, mode: str) -> None:
    run = Run(tmp_path, mode=mode)
    with_nan(tmp_path / "weights" / "middle")
    tables = run.tabulated()
    for name in ("languages", "monosemanticity", "quality", "sensitivity"):
        assert tables[name]["checkpoint"].unique().sort().to_list() == ["early", "late"], name
    assert tables["grid"].row(0, named=True)["setups"] == 2 * len(LAYERS)
    assert tables["tracking"].is_empty()
    assert tables["injection"]["checkpoint"].unique().to_list() == ["early"]
    extracted, injected = left_out(run.results)
    assert "local middle: activations of most held_out tokens are NaN or infinite" in extracted
    assert "local middle, the target: log-probabilities are NaN or infinite" in injected
    facts = read_provenance(run.results / "tables" / "features_quality.parquet").facts
    assert "local/middle/layer_1/topk" in facts["left_out"]
    svg = (run.results / "figures" / "local" / "sae_quality.svg").read_text(encoding="utf-8")
    assert "left out, as not finite: middle" in svg
    for path in run.results.rglob("*"):
        if path.suffix in (".parquet", ".json", ".safetensors"):
            inspect_path(path)
    assert not verify(run.results).damages


@pytest.mark.slow
def test_injections_need_their_source(tmp_path: Path) -> None:
    run = Run(tmp_path)
    # Above all layers of the study: activations and features are there.
    with_nan(tmp_path / "weights" / "late", layer=3)
    tables = run.tabulated()
    assert tables["injection"]["checkpoint"].unique().sort().to_list() == ["early", "middle"]
    quality = tables["quality"].filter(language="all", sae="topk")
    assert quality.filter(pl.col("recovered").is_null())["checkpoint"].unique().to_list() == [
        "late"
    ]
    with_nan(tmp_path / "weights" / "late")
    tables = run.tabulated()
    assert tables["injection"].is_empty()


def test_a_study_can_ask_to_stop(tmp_path: Path) -> None:
    run = Run(tmp_path, on_diverged="stop")
    with_nan(tmp_path / "weights" / "early")
    run.take_up()
    with pytest.raises(StudyError, match="local early: activations of most held_out tokens are"):
        run.train("early")
