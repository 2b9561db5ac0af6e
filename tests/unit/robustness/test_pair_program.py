"""The program that draws pairs of posts, from files to a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import select_pairs
from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.pairs import PAIRS_SCHEMA
from glossogenesis.storage import tables, tensors
from glossogenesis.storage.provenance import SCRIPTS, Provenance
from support.program_runs import run_main


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

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
        run_main(select_pairs, settings, predictions=predictions, states=states, output=output)
        return tables.read_table(output)


@pytest.fixture
def classified(tmp_path: Path) -> Classified:
    return Classified(tmp_path)


SPREAD = np.random.default_rng(0).uniform(0, 180, (2, 40)).round(2).tolist()


def test_pairs_of_each_model_and_common_ones(classified: Classified, tmp_path: Path) -> None:
    for model, degrees in zip(("first", "second"), SPREAD, strict=True):
        classified.write(model, degrees)
    first, second = (classified.select(model) for model in ("first", "second"))
    for table in (first, second):
        assert table.schema == PAIRS_SCHEMA
        counts = table.group_by("set", maintain_order=True).len().rows()
        assert [name for name, _ in counts] == ["own", "common"]
        assert table["pair"].to_list() == [pair for _, n in counts for pair in range(n)]
        assert all(10 <= n <= 20 for _, n in counts)
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
    # All states are alike there: each of the 19 right posts of the first label finds another's.
    assert table.height == 19
    assert table["set"].unique().to_list() == ["own"]


def test_no_common_pair_is_no_error(
    classified: Classified, capsys: pytest.CaptureFixture[str]
) -> None:
    classified.write("first", [0, 0, 10, 90, 100])
    classified.write("second", [0, 0, 90, 180, 270])
    assert classified.select("first")["set"].unique().to_list() == ["own"]
    assert "common: 0 of 0 pairs that qualify; highest cosine 0.0000" in capsys.readouterr().out
    with pytest.raises(StudyError, match=r"no pair of set 'own' reaches the cosine 0.5"):
        classified.select("second")
    with pytest.raises(StudyError, match=r"no pair of set 'common' reaches the cosine 0.5"):
        classified.select("first", sets=["common"])


def test_a_classifier_at_chance(classified: Classified, capsys: pytest.CaptureFixture[str]) -> None:
    classified.write("first", [0, 0, 10, 20])
    classified.write("second", [0, 0, 10, 20], beats_chance=False)
    assert classified.select("first")["set"].unique().to_list() == ["own"]
    assert "second: its classifier is at chance" in capsys.readouterr().out
    nothing = classified.select("second")
    assert nothing.equals(pl.DataFrame(schema=PAIRS_SCHEMA))


def test_states_of_other_posts(classified: Classified, tmp_path: Path) -> None:
    classified.write("first", [0, 0, 10])
    classified.write("second", [0, 0, 10])
    for states, message in (
        (torch.ones(2, 2), "`normed` has shape (2, 2) for 3 posts"),
        (torch.full((3, 2), torch.nan), "the final state of post 0 is not finite"),
    ):
        path = tmp_path / "second" / "states.safetensors"
        tensors.write_tensors(path, {"normed": states}, origin("second"))
        with pytest.raises(StudyError) as error:
            classified.select("first")
        assert f"second/states.safetensors: {message}" in str(error.value)
        assert "--forcerun classify_posts" in str(error.value)


def test_pairs_need_no_language_model() -> None:
    code = "import sys, select_pairs; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SCRIPTS)
