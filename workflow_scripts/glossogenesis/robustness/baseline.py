"""TF-IDF and a linear support vector machine: what a classifier reaches without a language model.

Imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from glossogenesis.exceptions import StudyError
from glossogenesis.study.robustness import BaselineSettings

MOST_ITERATIONS = 10_000
"""Of the solver, which warns where it stops before it has converged."""


@dataclass(frozen=True)
class BaselinePredictions:
    """What the baseline says of held-out posts."""

    predicted: list[str]
    """The label of each post."""
    vocabulary: int
    """Runs that are counted."""


def classify_by_tfidf(
    train_texts: Sequence[str],
    train_labels: Sequence[str],
    held_out_texts: Sequence[str],
    settings: BaselineSettings,
    *,
    seed: int,
) -> BaselinePredictions:
    """Fit TF-IDF weights and a linear SVM, one label against the rest, and predict.

    A run that occurs `n` times in a post weighs `(1 + ln n)` times its inverse document frequency,
    posts have length 1, and capitals count as small letters; what `settings` does not name is
    scikit-learn's default. `seed` is that of the solver.

    Raises:
        StudyError: the training posts have one label only, or no run is in enough of them.
    """
    if len(set(train_labels)) < 2:
        raise StudyError(
            f"the training posts have only the label {train_labels[0]!r}; a classifier needs two "
            "or more"
        )
    vectorizer = TfidfVectorizer(
        analyzer=settings.analyzer,
        ngram_range=settings.ngrams,
        min_df=settings.minimum_posts,
        sublinear_tf=True,
    )
    try:
        train = vectorizer.fit_transform(train_texts)
    except ValueError:
        raise StudyError(
            f"no run of {settings.ngrams[0]} to {settings.ngrams[1]} ({settings.analyzer}) occurs "
            f"in {settings.minimum_posts} of the {len(train_texts)} training posts; lower "
            "`robustness.baseline.minimum_posts`"
        ) from None
    machine = LinearSVC(C=settings.c, random_state=seed, max_iter=MOST_ITERATIONS)
    machine.fit(train, list(train_labels))
    predicted = machine.predict(vectorizer.transform(held_out_texts))
    return BaselinePredictions([str(label) for label in predicted], len(vectorizer.vocabulary_))
