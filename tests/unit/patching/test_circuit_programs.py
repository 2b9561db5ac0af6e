"""The programs that draw pairs and ablate circuits, from files to files."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from glossogenesis.models.files import CheckpointLocation
from glossogenesis.models.manifest import describe_checkpoint
from glossogenesis.patching.circuit import CIRCUIT_SCHEMA
from glossogenesis.patching.circuit_ablation import ABLATIONS_SCHEMA
from glossogenesis.patching.post_pairs import PAIRS_SCHEMA
from glossogenesis.provenance import Provenance
from glossogenesis.storage import tables, tensors
from tiny_classifiers import tiny_classifier
from tiny_posts import labelled_rows, random_token_ids, write_posts, write_tokenised_posts
from tiny_tokenizers import word_level

SCRIPTS_FOLDER = Path(__file__).parents[3] / "workflow_scripts"
LABELS = ("a", "b", "c", "d", "e")


def run(monkeypatch: pytest.MonkeyPatch, script: str, *given: Any, **options: Any) -> None:
    named = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    path = SCRIPTS_FOLDER / f"{script}.py"
    arguments = [str(path), "--study=demo", *named, *map(str, given)]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(path), run_name="__main__")


def origin(model: str, **facts: Any) -> Provenance:
    return Provenance(
        kind="test",
        study="demo",
        settings={},
        inputs={},
        code="0",
        model=model,
        checkpoint="c",
        facts=facts,
    )


class Classified:
    """Predictions and states of two models, and the pairs drawn from them."""

    settings: dict[str, Any]

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self.settings = {
            "pairs": {"number": 20, "minimum_cosine": 0.5},
            "seed": 0,
            "models": ["first", "second"],
        }

    def write(self, model: str, degrees: list[float], *, beats_chance: bool = True) -> None:
        """Posts of labels a, b, a, b, ...: all classified correctly but for the first."""
        posts = range(len(degrees))
        labels = ["ab"[post % 2] for post in posts]
        predictions = pl.DataFrame(
            {
                "post": [100 + post for post in posts],
                "number": list(posts),
                "label": labels,
                "predicted": ["b", *labels[1:]],
            },
            schema_overrides={"post": pl.Int32, "number": pl.Int32},
        )
        angles = torch.deg2rad(torch.tensor(degrees))
        states = torch.stack([angles.cos(), angles.sin()], dim=1)
        facts = origin(model, beats_chance=beats_chance)
        tables.write_table(self._folder / model / "predictions.parquet", predictions, facts)
        named = {"normed": 3 * states, "residual": torch.ones_like(states)}
        tensors.write_tensors(self._folder / model / "states.safetensors", named, facts)

    def select(self, model: str, **pairs: Any) -> pl.DataFrame:
        folder = self._folder
        settings = self.settings | {"model": model, "pairs": self.settings["pairs"] | pairs}
        predictions, states = (
            [folder / each / name for each in self.settings["models"]]
            for name in ("predictions.parquet", "states.safetensors")
        )
        output = folder / model / "pairs.parquet"
        given = ["--predictions", *predictions, "--states", *states, "--output", output]
        run(self._monkeypatch, "select_pairs", *given, settings=json.dumps(settings))
        return tables.read_table(output)


@pytest.fixture
def classified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Classified:
    return Classified(tmp_path, monkeypatch)


SPREAD = np.random.default_rng(0).uniform(0, 180, (2, 40)).round(2).tolist()


def test_pairs_of_each_model_and_common_ones(classified: Classified, tmp_path: Path) -> None:
    for model, degrees in zip(("first", "second"), SPREAD, strict=True):
        classified.write(model, degrees)
    first, second = (classified.select(model) for model in ("first", "second"))
    for table in (first, second):
        assert table.schema == PAIRS_SCHEMA
        assert table["set"].to_list() == ["own"] * 20 + ["common"] * 20
        assert table["pair"].to_list() == list(range(20)) * 2
        assert table["cosine"].min() >= 0.5
        assert 0 not in [*table["clean"], *table["corrupted"]]
    common = [table.filter(set="common") for table in (first, second)]
    assert common[0].drop("cosine").equals(common[1].drop("cosine"))
    assert not common[0].equals(common[1])
    assert not first.filter(set="own").equals(second.filter(set="own"))
    written = tmp_path / "first" / "pairs.parquet"
    content = written.read_bytes()
    classified.select("first")
    assert written.read_bytes() == content
    made = tables.read_provenance(written)
    assert (made.kind, made.model, made.checkpoint) == ("pairs", "first", "c")
    assert sorted(made.inputs) == [
        f"{kind}/{model}" for kind in ("predictions", "states") for model in ("first", "second")
    ]
    assert made.facts["own"]["qualifying"] > made.facts["common"]["qualifying"] > 20


def test_states_before_the_norm_and_one_set(classified: Classified) -> None:
    for model, degrees in zip(("first", "second"), SPREAD, strict=True):
        classified.write(model, degrees)
    table = classified.select("first", states="residual", sets=["own"], number=10_000)
    # All states are alike there: 20 x 20 posts of different labels, without those of the first.
    assert table.height == 19 * 20
    assert table["set"].unique().to_list() == ["own"]


def test_no_common_pair_is_no_error(
    classified: Classified, capsys: pytest.CaptureFixture[str]
) -> None:
    classified.write("first", [0, 0, 10, 90, 100])
    classified.write("second", [0, 0, 90, 180, 270])
    assert classified.select("first")["set"].unique().to_list() == ["own"]
    assert "common: 0 of 0 pairs that qualify; highest cosine 0.0000" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        classified.select("second")
    assert "no pair of set 'own' reaches the cosine 0.5" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        classified.select("first", sets=["common"])
    assert "no pair of set 'common' reaches the cosine 0.5" in capsys.readouterr().err


def test_a_classifier_at_chance(classified: Classified, capsys: pytest.CaptureFixture[str]) -> None:
    classified.write("first", [0, 0, 10, 20])
    classified.write("second", [0, 0, 10, 20], beats_chance=False)
    assert classified.select("first")["set"].unique().to_list() == ["own"]
    assert "second: its classifier is at chance" in capsys.readouterr().out
    nothing = classified.select("second")
    assert nothing.equals(pl.DataFrame(schema=PAIRS_SCHEMA))


def test_states_of_other_posts(
    classified: Classified, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classified.write("first", [0, 0, 10])
    classified.write("second", [0, 0, 10])
    for states, message in (
        (torch.ones(2, 2), "`normed` has shape (2, 2) for 3 posts"),
        (torch.full((3, 2), torch.nan), "the final state of post 0 is not finite"),
    ):
        path = tmp_path / "second" / "states.safetensors"
        tensors.write_tensors(path, {"normed": states}, origin("second"))
        with pytest.raises(SystemExit):
            classified.select("first")
        error = capsys.readouterr().err
        assert f"second/states.safetensors: {message}" in error
        assert "--forcerun classify_posts" in error


def test_pairs_need_no_language_model() -> None:
    code = "import sys, select_pairs; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SCRIPTS_FOLDER)


SETTINGS: dict[str, Any] = {
    "circuit": {"thresholds": [0.1, 0.5], "random_draws": 2, "reference_posts": 8},
    "outputs": "added",
    "dtype": "float32",
    "resamples": 100,
    "seed": 0,
}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """A classifier with posts, and effects that name MLP 1 and, at 0.1, attention 0 too."""
    folder = tmp_path / "classifier"
    model: Any = tiny_classifier("llama").model
    model.config.id2label = dict(enumerate(LABELS))
    model.save_pretrained(folder)
    tokenizer = word_level(["a b c"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    manifest = describe_checkpoint(
        CheckpointLocation(str(folder)),
        model="m",
        checkpoint="c",
        source="classifier",
        provenance=asdict(origin("m")),
    )
    manifest.write(tmp_path / "manifest.json")
    corpus = write_tokenised_posts(
        tmp_path / "corpus",
        {"train": random_token_ids(20), "held_out": random_token_ids(15, seed=1)},
        tokenizer_digest=manifest.tokenizer_digest,
    )
    effects = pl.DataFrame(
        [
            {
                "set": "own",
                "pair": pair,
                "layer": layer,
                "component": component,
                "effect": {(1, "mlp"): 1.0, (0, "attention"): 0.25}.get((layer, component), 0.0),
            }
            for pair in range(3)
            for layer in range(4)
            for component in ("attention", "mlp")
        ],
        schema_overrides={"pair": pl.Int32, "layer": pl.Int16, "effect": pl.Float32},
    )
    tables.write_table(tmp_path / "effects.parquet", effects, origin("m"))
    return {
        "classifier": tmp_path / "manifest.json",
        "corpus": corpus.folder / "manifest.json",
        "posts": write_posts(tmp_path, labelled_rows(LABELS)),
        "effects": tmp_path / "effects.parquet",
    }


def ablate(
    monkeypatch: pytest.MonkeyPatch, inputs: dict[str, Path], folder: Path
) -> tuple[pl.DataFrame, pl.DataFrame]:
    written = {"circuit": folder / "circuit.parquet", "output": folder / "ablations.parquet"}
    options = {"settings": json.dumps(SETTINGS), "batch_size": 4, "device": "cpu", "threads": 1}
    run(monkeypatch, "ablate_circuit", **options, **inputs, **written)
    circuit, ablations = (tables.read_table(path) for path in written.values())
    return circuit, ablations


def test_ablate_circuit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inputs: dict[str, Path]
) -> None:
    circuit, ablations = ablate(monkeypatch, inputs, tmp_path / "a")
    assert circuit.schema == CIRCUIT_SCHEMA
    assert ablations.schema == ABLATIONS_SCHEMA
    members = circuit.filter("in_circuit")["threshold", "layer", "component"].rows()
    assert members == [
        (pytest.approx(0.1), 0, "attention"),
        (pytest.approx(0.1), 1, "mlp"),
        (0.5, 1, "mlp"),
    ]
    # Two thresholds, two measures, three methods; the circuit, two random ones, all and none.
    assert ablations.height == 2 * 2 * 3 * 5
    sizes = ablations.group_by("threshold", "circuit", maintain_order=True).agg(
        pl.col("size").unique()
    )
    assert sizes["size"].to_list() == [[2], [2], [8], [0], [1], [1], [8], [0]]
    assert ablations["n"].unique().to_list() == [15]
    whole = ablations.filter(circuit="all", measure="sufficiency")
    assert whole["correct"].equals(whole["correct_full"])
    lost_and_won = pl.col("correct_full") - pl.col("lost") + pl.col("gained")
    assert ablations.filter(pl.col("correct") != lost_and_won).is_empty()
    assert not ablations.filter(pl.col("lost") > 0).is_empty()
    ablate(monkeypatch, inputs, tmp_path / "b")
    for name in ("circuit.parquet", "ablations.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        made = tables.read_provenance(tmp_path / "a" / name)
        assert (made.model, made.checkpoint, made.dtype) == ("m", "c", "float32")
        assert sorted(made.inputs) == ["classifier", "corpus", "effects", "posts"]


def test_no_effects_of_a_classifier_at_chance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inputs: dict[str, Path]
) -> None:
    empty = tables.read_table(inputs["effects"]).clear()
    tables.write_table(inputs["effects"], empty, origin("m"))
    circuit, ablations = ablate(monkeypatch, inputs, tmp_path / "a")
    assert circuit.equals(pl.DataFrame(schema=CIRCUIT_SCHEMA))
    assert ablations.equals(pl.DataFrame(schema=ABLATIONS_SCHEMA))


def test_a_classifier_of_other_labels(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    inputs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = write_posts(tmp_path / "other", labelled_rows(("a", "b", "c", "d", "x")))
    with pytest.raises(SystemExit):
        ablate(monkeypatch, inputs | {"posts": other}, tmp_path / "a")
    assert "knows other labels than" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
