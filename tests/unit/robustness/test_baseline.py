"""TF-IDF and a linear support vector machine on posts with known answers."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.baseline import BaselinePredictions, classify_by_tfidf
from glossogenesis.storage.provenance import SCRIPTS
from glossogenesis.study.robustness import BaselineSettings

TEXTS = ["猫が好き", "猫と犬", "車を買う", "車の色", "米を炊く", "米と水"]
LABELS = ["pets", "pets", "cars", "cars", "cooking", "cooking"]


def baseline(settings: BaselineSettings | None = None) -> BaselinePredictions:
    held_out = ["白い猫", "赤い車", "米の袋"]
    return classify_by_tfidf(TEXTS, LABELS, held_out, settings or BaselineSettings(), seed=0)


def test_finds_the_words_that_tell_labels_apart() -> None:
    assert baseline().predicted == ["pets", "cars", "cooking"]


def test_the_vocabulary_is_runs_of_characters_in_enough_posts() -> None:
    """In two or more posts: 猫, 車, 米, と and を, and no longer run."""
    assert baseline().vocabulary == 5
    once = BaselineSettings(minimum_posts=1, ngrams=(4, 4))
    assert baseline(once).vocabulary == sum(len(text) == 4 for text in TEXTS) == 3


def test_equals_a_pipeline_of_scikit_learn() -> None:
    texts = [f"w{number % 7} w{number % 5} w{number % 3}" for number in range(60)]
    labels = ["abc"[number % 3] for number in range(60)]
    pipeline = make_pipeline(
        TfidfVectorizer(analyzer="word", ngram_range=(1, 2), min_df=3, sublinear_tf=True),
        LinearSVC(C=0.5, random_state=4),
    )
    expected = pipeline.fit(texts[:40], labels[:40]).predict(texts[40:])
    found = classify_by_tfidf(
        texts[:40],
        labels[:40],
        texts[40:],
        BaselineSettings(analyzer="word", ngrams=(1, 2), minimum_posts=3, c=0.5),
        seed=4,
    )
    assert found.predicted == expected.tolist()


def test_an_empty_vocabulary_is_named() -> None:
    with pytest.raises(StudyError, match=r"occurs in 5 of the 6 training posts; lower `robust"):
        baseline(BaselineSettings(minimum_posts=5))
    with pytest.raises(StudyError, match=r"occurs in 7 of the 6 training posts; lower `robust"):
        baseline(BaselineSettings(minimum_posts=7))


def test_one_label_is_refused() -> None:
    with pytest.raises(StudyError, match="only the label 'pets'; a classifier needs two"):
        classify_by_tfidf(["猫", "犬"], ["pets", "pets"], ["猫"], BaselineSettings(), seed=0)


def test_the_program_is_light() -> None:
    code = "import sys, train_baseline; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SCRIPTS)
