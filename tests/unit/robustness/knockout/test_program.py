"""The program that knocks out features, on a classifier that says which features matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from transformers import PreTrainedTokenizerFast

import knock_out_features
from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.knockout.sets import KNOCKOUT_SCHEMA
from glossogenesis.sae.files import SaeFacts, write_sae
from glossogenesis.storage.provenance import Provenance, file_digest
from glossogenesis.storage.tables import read_provenance, read_table, write_table
from support.planted_classifier import LABELS, planted_classifier, planted_posts
from support.program_runs import ON_CPU, run_main
from support.tiny_checkpoint import write_manifest
from support.tiny_models import D_MODEL
from support.tiny_posts import write_posts, write_tokenised_posts
from support.tiny_saes import perfect_sae
from support.tiny_tokenizers import word_level

LAYERS = (1, 3)
N_LATENTS = 2 * D_MODEL
HELD_OUT = {"a": 3, "b": 2, "c": 3, "d": 0}
"""Posts a label; those of `d` are all training posts."""
SETTINGS: dict[str, Any] = {
    "layers": LAYERS,
    "knockout": {
        "replace": "error_preserving",
        "positions": "all",
        "draws": 4,
    },
    "pooling": "mean",
    "top": 2,
    "sae": "l1",
    "dtype": "float32",
    "resamples": 200,
    "seed": 0,
}


class Study:
    """The planted classifier on disk, with an autoencoder of two latents an axis."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        model: Any = planted_classifier().model
        model.save_pretrained(folder / "weights")
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=word_level(["x"]), unk_token="<unk>")
        tokenizer.save_pretrained(folder / "weights")
        manifest = write_manifest(
            folder / "classifier.json", folder / "weights", source="classifier"
        )
        splits = {"train": dict.fromkeys(LABELS, 1), "held_out": HELD_OUT}
        write_posts(
            folder,
            [
                {"split": split, "label": label, "body": "x"}
                for split, numbers in splits.items()
                for label, number in numbers.items()
                for _ in range(number)
            ],
        )
        token_ids = {
            split: [
                ids
                for label, number in numbers.items()
                for ids in planted_posts(LABELS.index(label), number)
            ]
            for split, numbers in splits.items()
        }
        write_tokenised_posts(
            folder / "corpus", token_ids, tokenizer_digest=manifest.tokenizer_digest
        )
        for layer in LAYERS:
            self.write_layer(layer)

    def write_layer(self, layer: int, trained_on: int | None = None) -> None:
        """An autoencoder, of which latent k is of label k; `b` has none at layer 3."""
        folder = self.folder / f"layer_{layer}" / "l1"
        provenance = replace(
            Provenance("sae", "test", {}, inputs={}, code="0"),
            **{"model": "tiny", "checkpoint": "step1", "layer": trained_on or layer},
        )
        facts = SaeFacts(
            model_name="tiny", revision=None, hook_name="", context_size=9, dataset="", training={}
        )
        write_sae(folder, perfect_sae(D_MODEL, normalise="l2"), facts, provenance)
        d = {
            (number, label): 2.0
            for number, label in enumerate(LABELS)
            if (layer, label) != (3, "b")
        }
        features = range(N_LATENTS)
        described = replace(
            provenance, inputs={"sae": file_digest(folder / "sae_weights.safetensors")}
        )
        labels = [
            {"feature": feature, "label": label, "d_mean": d.get((feature, label), -0.1)}
            for feature in features
            for label in LABELS
        ]
        write_table(folder / "labels.parquet", pl.DataFrame(labels), described)
        frequencies = {"feature": list(features), "firing_frequency": [0.5] * N_LATENTS}
        write_table(folder / "features.parquet", pl.DataFrame(frequencies), described)

    def run(self, **changes: Any) -> pl.DataFrame:
        knockout = {**SETTINGS["knockout"], **changes.pop("knockout", {})}
        run_main(
            knock_out_features,
            {**SETTINGS, "knockout": knockout, **changes},
            classifier=self.folder / "classifier.json",
            corpus=self.folder / "corpus" / "manifest.json",
            posts=self.folder / "posts.parquet",
            saes=self.folder,
            features=self.folder,
            batch_size=2,
            output=self.folder / "knockout.parquet",
            **ON_CPU,
        )
        return read_table(self.folder / "knockout.parquet")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def recalls(
    table: pl.DataFrame, layer: int, condition: str
) -> dict[str, set[tuple[int, int, int]]]:
    """Features removed and right answers before and after, of all draws, by label."""
    columns = ["label", "features", "correct_before", "correct_after"]
    rows = table.filter(layer=layer, condition=condition).select(columns).rows()
    return {label: {row[1:] for row in rows if row[0] == label} for label in LABELS}


def test_planted_features_are_all_that_matters(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    table = study.run()
    assert table.schema == KNOCKOUT_SCHEMA
    assert recalls(table, 1, "top") == {
        "a": {(1, 3, 0)},
        "b": {(1, 2, 0)},
        "c": {(1, 3, 0)},
        "d": {(1, 0, 0)},
    }
    unchanged = {label: {(1, number, number)} for label, number in HELD_OUT.items()}
    for control in ("frequency", "other"):
        assert recalls(table, 1, control) == unchanged
    nothing = {label: {(0, number, number)} for label, number in HELD_OUT.items()}
    assert recalls(table, 1, "none") == nothing
    # At layer 3 no feature is known to be of b.
    assert recalls(table, 3, "top")["b"] == {(0, 2, 2)}
    assert recalls(table, 3, "random")["b"] == set()
    without_a = table.filter(layer=1, label="a", condition="top").row(0, named=True)
    # Three posts of eight are lost, and all of them are taken for ones of `d`.
    assert [without_a[f"all_{name}"] for name in ("n", "correct_after", "lost", "gained")] == [
        *(8, 5, 3, 0)
    ]
    assert (without_a["macro_f1_before"], without_a["macro_f1_after"]) == (1, 2 / 4)
    assert without_a["macro_f1_low"] <= 2 / 4 - 1 <= without_a["macro_f1_high"]
    given_d = table.filter(layer=1, label="d", condition="other", other_label="a")
    false = [given_d[f"false_{name}"].item() for name in ("before", "after", "lost", "gained")]
    assert false == [0, 3, 0, 3]
    assert "layer 3: no feature fires more for b than" in capsys.readouterr().out


def test_rows_are_in_order_and_complete(study: Study) -> None:
    table = study.run()
    expected = ["none", "top", *["random"] * 4, *["frequency"] * 4, *["other"] * 3]
    of_label = table.filter(layer=1, label="a")
    assert of_label["condition"].to_list() == expected
    assert of_label["draw"].to_list() == [0, 0, *range(4), *range(4), *range(3)]
    assert of_label["other_label"].drop_nulls().to_list() == ["b", "c", "d"]
    # Features that fire as often are removed from all posts once, then from the label's own.
    of_all = of_label.filter(condition="frequency")["all_n"].to_list()
    assert of_all == [8, None, None, None]
    order = table.select("layer", "label").unique(maintain_order=True)
    assert order.rows() == [(layer, label) for layer in LAYERS for label in LABELS]
    assert table.filter(label="d")["logit_change"].is_null().all()
    lost = table.filter(label="a", layer=1, condition="top").row(0, named=True)
    assert (lost["n"], lost["lost"], lost["gained"]) == (3, 3, 0)
    assert lost["logit_change"] < -5
    assert table.filter(condition="none", label="a")["logit_change"].to_list() == [0.0, 0.0]


def test_equal_runs_give_equal_bytes_and_say_what_they_are(study: Study) -> None:
    study.run()
    path = study.folder / "knockout.parquet"
    first = path.read_bytes()
    study.run()
    assert path.read_bytes() == first
    provenance = read_provenance(path)
    assert (provenance.kind, provenance.model, provenance.seed) == ("knockout", "tiny", 0)
    assert set(provenance.inputs) == {
        *("classifier", "corpus", "posts"),
        *(f"{kind}_layer_{n}" for kind in ("weights", "labels", "features") for n in LAYERS),
    }


def test_reconstruction_stands_in_for_the_stream(study: Study) -> None:
    # This autoencoder has no error, so that both ways of removal agree.
    first, second = study.run(), study.run(knockout={"replace": "reconstruction"})
    columns = [name for name in KNOCKOUT_SCHEMA if name != "logit_change"]
    assert first.select(columns).equals(second.select(columns))


def test_files_that_do_not_belong_together_are_refused(study: Study) -> None:
    with pytest.raises(StudyError, match=r"layer_0/l1/cfg.json: no such"):
        study.run(layers=[0])
    study.write_layer(1, trained_on=2)
    with pytest.raises(StudyError, match="an autoencoder of layer 2, but layer 1 is measured"):
        study.run()
    study.write_layer(1)
    labels = study.folder / "layer_1" / "l1" / "labels.parquet"
    write_table(labels, read_table(labels), replace(read_provenance(labels), inputs={"sae": "0"}))
    with pytest.raises(StudyError, match=r"labels.parquet: does not describe .*layer_1"):
        study.run()
