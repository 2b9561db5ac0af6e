"""Classify the held-out posts, and average the final states over each post's tokens."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.corpora.posts import Posts
from glossogenesis.progress import progress
from glossogenesis.robustness.scores import LOGITS_SCHEMA, chance_of, scores_of
from glossogenesis.robustness.tokenised_posts import (
    classify_posts,
    open_classifier,
)
from glossogenesis.statistics.intervals import wilson_interval
from glossogenesis.storage.tables import write_table
from glossogenesis.storage.tensors import write_tensors
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the predictions and mean-pooled final states of one classifier."""
    arguments = program_arguments(
        __doc__,
        classifier={"help": "manifest of the classifier"},
        corpus={"help": "manifest of the tokenised posts"},
        posts={"help": "table of posts"},
        batch_size={"type": int, "help": "posts in one forward pass"},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        output={"help": "table of predictions, Parquet"},
        states={"help": "final states, safetensors"},
    )
    opened = open_classifier(
        arguments.classifier,
        arguments.corpus,
        arguments.posts,
        dtype=arguments.settings["dtype"],
        device=arguments.device,
    )
    held_out = opened.held_out.token_ids
    with progress(total=len(held_out), label="classifying", unit="post") as bar:
        classified = classify_posts(
            opened.anatomy, held_out, batch_size=arguments.batch_size, on_batch=bar.update
        )
    table = predictions_table(opened.posts, classified.logits.numpy())
    facts = facts_of(table)
    provenance = provenance_of(
        arguments,
        "predictions",
        {name: getattr(arguments, name) for name in ("classifier", "corpus", "posts")},
        **opened.manifest.origin,
        dtype=arguments.settings["dtype"],
        device=opened.anatomy.device.type,
        facts=facts,
    )
    write_tensors(
        arguments.states,
        {"normed": classified.normed, "residual": classified.residual},
        provenance,
    )
    write_table(arguments.output, table, provenance)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))


def predictions_table(posts: Posts, logits: NDArray[np.float32]) -> pl.DataFrame:
    """Return `predictions.parquet` of logits `[held_out post, label]`."""
    of_label = (np.arange(len(logits)), posts.label_ids("held_out"))
    others = logits.copy()
    others[of_label] = -np.inf
    predicted = [posts.labels[number] for number in logits.argmax(axis=1)]
    return (
        posts.of("held_out")
        .select("post", "number", "label")
        .with_columns(
            predicted=pl.Series(predicted),
            logit=pl.Series(logits[of_label]),
            margin=pl.Series(logits[of_label] - others.max(axis=1)),
        )
        .match_to_schema(LOGITS_SCHEMA)
    )


def facts_of(table: pl.DataFrame) -> dict[str, Any]:
    """Return the scores of predictions, and whether they are better than chance.

    They are where the lower end of the accuracy's 95 % Wilson interval exceeds the share of the
    most frequent label.
    """
    labels, predicted = table["label"].to_list(), table["predicted"].to_list()
    scores = scores_of(labels, predicted)
    chance = chance_of(labels)
    correct = sum(label == guess for label, guess in zip(labels, predicted, strict=True))
    low, _ = wilson_interval(correct, len(labels))
    return {
        "accuracy": scores.accuracy,
        "macro_f1": scores.macro_f1,
        "chance": chance,
        "beats_chance": bool(low > chance),
    }


if __name__ == "__main__":
    run_program(main)
