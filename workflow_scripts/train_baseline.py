"""Classify the held-out posts by TF-IDF and a linear support vector machine."""

import polars as pl

from glossogenesis.corpora.posts import read_posts
from glossogenesis.robustness.baseline import classify_by_tfidf
from glossogenesis.robustness.scores import PREDICTIONS_SCHEMA, scores_of
from glossogenesis.storage.tables import write_table
from glossogenesis.study.robustness import BaselineSettings
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the baseline's predictions."""
    arguments = program_arguments(
        __doc__,
        posts={"help": "table of posts"},
        output={"help": "table of predictions, Parquet"},
    )
    seed = arguments.settings["seed"]
    posts = read_posts(arguments.posts)
    train, held_out = posts.of("train"), posts.of("held_out")
    found = classify_by_tfidf(
        train["text"].to_list(),
        train["label"].to_list(),
        held_out["text"].to_list(),
        BaselineSettings.model_validate(arguments.settings["baseline"]),
        seed=seed,
    )
    labels = held_out["label"].to_list()
    scores = scores_of(labels, found.predicted)
    facts = {
        "vocabulary": found.vocabulary,
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
    }
    provenance = provenance_of(
        arguments, "baseline", {"posts": arguments.posts}, seed=seed, facts=facts
    )
    guesses = pl.Series("predicted", found.predicted, pl.String)
    table = held_out.with_columns(guesses).select(*PREDICTIONS_SCHEMA)
    write_table(arguments.output, table, provenance)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))


if __name__ == "__main__":
    run_program(main)
