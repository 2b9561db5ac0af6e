"""The programs that train and run classifiers, from posts and a checkpoint to their files."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
import torch
from sklearn.metrics import f1_score
from statsmodels.stats.proportion import proportion_confint

import classify_posts
import finetune_classifier
import train_baseline
from glossogenesis.exceptions import StudyError
from glossogenesis.models.checkpoints import tokenizer_digest
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.robustness.scores import LOGITS_SCHEMA
from glossogenesis.robustness.tokenised_posts import LabelledPosts
from glossogenesis.storage.provenance import file_digest
from glossogenesis.storage.tables import read_provenance, read_table
from glossogenesis.storage.tensors import read_tensors
from glossogenesis.study.robustness import BaselineSettings, ClassifierSettings
from support.program_runs import ON_CPU, run_main
from support.separable_posts import LABELS, separable_posts
from support.tiny_checkpoint import save_tiny_checkpoint, write_manifest
from support.tiny_models import D_MODEL
from support.tiny_posts import write_posts, write_tokenised_posts

CLASSIFIER = ClassifierSettings(epochs=2, learning_rate=1e-2, batch_size=8)


class Study:
    """Inputs in a folder, and the programs that read them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = save_tiny_checkpoint(folder / "checkpoint")
        manifest = write_manifest(folder / "checkpoint.json", self.weights, source="checkpoint")
        self.splits = {"train": separable_posts(72), "held_out": separable_posts(30, seed=1)}
        self.posts = write_posts(folder, rows_of(self.splits))
        self.write_corpus("corpus", self.splits, manifest.tokenizer_digest)

    def write_corpus(
        self, name: str, splits: dict[str, LabelledPosts], tokenizer: str | None = None
    ) -> Path:
        write_tokenised_posts(
            self.folder / name,
            {split: posts.token_ids for split, posts in splits.items()},
            tokenizer_digest=tokenizer or tokenizer_digest(self.weights),
        )
        return self.folder / name / "manifest.json"

    def finetune(
        self, name: str = "classifier", settings: ClassifierSettings = CLASSIFIER, **options: Path
    ) -> Path:
        output = self.folder / name / "manifest.json"
        self._run(
            finetune_classifier,
            {"classifier": settings.model_dump(), "seed": 0, "dtype": "bfloat16"},
            **{
                "checkpoint": self.folder / "checkpoint.json",
                **self._inputs,
                "resume-dir": self.folder / "resume",
                "output": output,
                "training": self.folder / name / "training.parquet",
            }
            | options,
        )
        return output

    def classify(
        self, classifier: Path, name: str = "predictions", **options: Any
    ) -> tuple[pl.DataFrame, Path]:
        output = self.folder / f"{name}.parquet"
        given: dict[str, Any] = {
            "classifier": classifier,
            **self._inputs,
            "output": output,
            "states": self.folder / f"{name}.safetensors",
        }
        self._run(classify_posts, {"dtype": "float32"}, **given | options)
        return read_table(output), output

    def baseline(self, **changes: Any) -> Path:
        output = self.folder / "baseline.parquet"
        settings = {"baseline": BaselineSettings(**changes).model_dump(), "seed": 0}
        self._run(train_baseline, settings, posts=self.posts, output=output)
        return output

    @property
    def _inputs(self) -> dict[str, Any]:
        corpus = self.folder / "corpus" / "manifest.json"
        return {"corpus": corpus, "posts": self.posts, "batch-size": 5}

    def _run(self, program: ModuleType, settings: Any, **options: Any) -> None:
        computing = {} if program is train_baseline else ON_CPU
        run_main(program, settings, **computing, **options)


def rows_of(splits: dict[str, LabelledPosts]) -> list[dict[str, str]]:
    """Rows of posts whose text spells their tokens."""
    return [
        {
            "split": split,
            "label": LABELS[label],
            "body": " ".join(f"t{token}" for token in token_ids) + f" {split}",
        }
        for split, posts in splits.items()
        for token_ids, label in zip(posts.token_ids, posts.label_ids, strict=True)
    ]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def classifier(study: Study) -> Path:
    return study.finetune()


def test_a_classifier_is_a_checkpoint(study: Study, classifier: Path) -> None:
    manifest = CheckpointManifest.read(classifier)
    assert (manifest.model, manifest.checkpoint) == ("tiny", "step1")
    assert (manifest.source, manifest.architecture) == ("classifier", "llama")
    assert manifest.folder == manifest.tokenizer_folder == str(classifier.parent / "weights")
    assert manifest.tokenizer_digest == tokenizer_digest(study.weights)
    assert set(manifest.provenance["inputs"]) == {"checkpoint", "corpus", "posts"}
    # On the CPU, whatever the model's dtype.
    assert manifest.provenance["dtype"] == "float32"
    assert set(classifier.parent.iterdir()) == {
        classifier, classifier.parent / "weights", classifier.parent / "training.parquet"
    }  # fmt: skip
    assert not (study.folder / "resume").exists()
    loaded = load_model(manifest.location, device="cpu", head="classifier")
    assert loaded.model.config.id2label == dict(enumerate(LABELS))


def test_the_training_table_ends_at_what_the_weights_do(study: Study, classifier: Path) -> None:
    table = read_table(classifier.parent / "training.parquet")
    assert table["epoch"].to_list() == [1, 2]
    predictions, path = study.classify(classifier)
    facts = read_provenance(path).facts
    assert facts["macro_f1"] == pytest.approx(table["macro_f1"][-1])
    assert facts["accuracy"] == pytest.approx(table["accuracy"][-1])
    assert facts["macro_f1"] == pytest.approx(
        f1_score(predictions["label"], predictions["predicted"], average="macro")
    )
    assert facts["macro_f1"] > 0.9


def test_equal_runs_give_equal_bytes(study: Study, classifier: Path) -> None:
    again = study.finetune("again")
    for name in ("weights/model.safetensors", "weights/config.json", "training.parquet"):
        assert file_digest(again.parent / name) == file_digest(classifier.parent / name), name


def test_predictions_say_what_the_classifier_says(study: Study, classifier: Path) -> None:
    table, path = study.classify(classifier)
    assert table.schema == LOGITS_SCHEMA
    assert table["post"].to_list() == list(range(72, 102))
    assert table["number"].to_list() == list(range(30))
    assert table["label"].to_list() == [LABELS[number % 3] for number in range(30)]
    right = table["label"] == table["predicted"]
    assert (right == (table["margin"] > 0)).all()
    model = load_model(
        CheckpointManifest.read(classifier).location, device="cpu", head="classifier"
    ).model
    for number in (0, 7):
        token_ids = study.splits["held_out"].token_ids[number]
        logits = model(torch.tensor([token_ids])).logits[0].tolist()
        of_label = logits.pop(number % 3)
        assert table["logit"][number] == pytest.approx(of_label, abs=1e-5)
        assert table["margin"][number] == pytest.approx(of_label - max(logits), abs=1e-5)
    states = read_tensors(path.with_suffix(".safetensors"))
    assert {name: tuple(tensor.shape) for name, tensor in states.items()} == {
        "normed": (30, D_MODEL),
        "residual": (30, D_MODEL),
    }


def test_chance_is_beaten_where_an_interval_says_so(study: Study, classifier: Path) -> None:
    table, path = study.classify(classifier)
    facts = read_provenance(path).facts
    assert facts["chance"] == pytest.approx(1 / 3)
    assert facts["beats_chance"] is True
    for correct in (12, 20):
        guessed = table.with_columns(
            predicted=pl.when(pl.col("number") < correct).then("label").otherwise(pl.lit("-"))
        )
        low, _ = proportion_confint(correct, 30, method="wilson")
        found = classify_posts.facts_of(guessed)
        assert found["accuracy"] == pytest.approx(correct / 30)
        assert found["beats_chance"] is bool(low > 1 / 3) is (correct == 20)


def test_the_baseline_predicts_held_out_posts(study: Study) -> None:
    path = study.baseline(analyzer="word", ngrams=(1, 1))
    table = read_table(path)
    assert table.columns == ["post", "number", "label", "predicted"]
    assert table["post"].to_list() == list(range(72, 102))
    assert (table["label"] == table["predicted"]).mean() == 1.0
    facts = read_provenance(path).facts
    assert facts["macro_f1"] == 1.0
    # 12 tokens, and the word that names the split.
    assert facts["vocabulary"] == 13
    with pytest.raises(StudyError, match=r"lower `robustness.baseline.minimum_posts`"):
        study.baseline(minimum_posts=73)


def test_inputs_that_do_not_fit_are_refused(study: Study, classifier: Path, tmp_path: Path) -> None:
    foreign = study.write_corpus("foreign", study.splits, tokenizer="another")
    fewer = study.write_corpus("fewer", {**study.splits, "held_out": separable_posts(29)})
    for corpus, message in (
        (foreign, r"foreign/manifest.json: tokenised by another tokenizer than that of tiny step1"),
        (fewer, r"has 29 posts in 'held_out', but .*posts.parquet has 30; remake"),
    ):
        with pytest.raises(StudyError, match=message):
            study.finetune("refused", corpus=corpus)
        with pytest.raises(StudyError, match=message):
            study.classify(classifier, "refused", corpus=corpus)
    relabelled = [{**row, "label": f"new {row['label']}"} for row in rows_of(study.splits)]
    with pytest.raises(StudyError, match=r"weights: knows other labels than .*posts.parquet"):
        study.classify(classifier, "refused", posts=write_posts(tmp_path, relabelled))
    one_label = [{**row, "label": "cars"} for row in rows_of(study.splits)]
    with pytest.raises(StudyError, match="only the label 'cars'; a classifier needs two or more"):
        study.finetune("refused", posts=write_posts(tmp_path, one_label))
    assert not (study.folder / "refused").exists()


def test_lost_weights_are_remade_by_fine_tuning(study: Study) -> None:
    manifest = study.finetune("lost", CLASSIFIER.model_copy(update={"epochs": 1}))
    (manifest.parent / "weights" / "model.safetensors").unlink()
    with pytest.raises(StudyError, match=r"missing.*`snakemake --forcerun finetune_classifier`"):
        study.classify(manifest)


def test_one_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    finetune_classifier.report(finetune_classifier.TrainedEpoch(2, 90, 0.25, 0.5, 0.75, 0.625))
    assert capsys.readouterr().out == (
        "epoch 2, step 90: training loss 0.2500, held-out loss 0.5000, accuracy 0.7500, "
        "macro F1 0.6250\n"
    )
