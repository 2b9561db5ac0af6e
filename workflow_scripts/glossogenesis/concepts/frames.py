"""The numbers behind the figures of the concepts study: rows of its tables, chosen and named.

Whatever is shown of several language pairs was pooled in the tables, where concepts were drawn
once for all pairs. Every function raises a StudyError where the table has no rows for its figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from glossogenesis.concepts.comparisons import REFERENCES
from glossogenesis.concepts.scoring import OUTCOMES
from glossogenesis.concepts.tables import KINDS, TRANSLATION
from glossogenesis.exceptions import StudyError
from glossogenesis.figures.panels import CHECKPOINT_COLUMNS

StartLayer = int | Literal["best"]
UNPATCHED = ("tgt_unpatched", "src_unpatched")
PATCHED = ("seen", "tgt", "en_en", "copy", "self")

_VALUES = ("n", pl.col("share").alias("value"), "low", "high")


@dataclass(frozen=True)
class Languages:
    """What figures know of the languages of a study, in its order.

    `groups` maps each code to the label of its group; `unseen` are the codes that pretraining never
    saw; `pivot` is the language whose pairs are shown apart.
    """

    groups: Mapping[str, str]
    unseen: frozenset[str]
    pivot: str

    @property
    def codes(self) -> tuple[str, ...]:
        """All codes, by order of their group's first language, then of the study."""
        labels = list(dict.fromkeys(self.groups.values()))
        return tuple(code for label in labels for code in self.groups if self.groups[code] == label)


def unpatched_frame(pooled: pl.DataFrame, languages: Languages) -> pl.DataFrame:
    """Accuracy of the unpatched target prompts per checkpoint, kind of pair and output language.

    Kinds, in this order: `copying` (one language twice), `pivot` (pairs with the pivot language),
    `no_pivot`, and `unseen` (a language of the pair was not in pretraining). `pooled` is the table
    `concepts_pooled` of one model.

    Columns: kind, output_language, group, checkpoint, step, tokens, phase, pairs, n, value, low,
    high.
    """
    rows = pooled.filter(
        pl.col("pool").is_in(KINDS),
        pl.col("output_language").is_not_null(),
        setting="tgt_unpatched",
        measure="accuracy",
    )
    if rows.is_empty():
        raise StudyError("concepts_pooled has no rows of setting tgt_unpatched; tabulate it again")
    if unknown := sorted(set(rows["output_language"]) - set(languages.groups)):
        raise StudyError(f"language {unknown[0]!r} has results but no entry under `languages`")
    group = pl.col("output_language").replace_strict(dict(languages.groups), return_dtype=pl.String)
    return rows.sort(
        _rank("pool", KINDS), _rank("output_language", languages.codes), "step", maintain_order=True
    ).select(
        *(pl.col("pool").alias("kind"), "output_language", group.alias("group")),
        *(*CHECKPOINT_COLUMNS, "pairs", *_VALUES),
    )


def patched_frame(
    accuracy: pl.DataFrame, start_layer: StartLayer, pairs: Sequence[tuple[str, str]] = ()
) -> pl.DataFrame:
    """Accuracy per target pair, setting and checkpoint, patched from `start_layer` or not at all.

    Only pairs that were patched; `self` is a control that must equal `tgt_unpatched`, and is left
    out. `accuracy` is the table `concepts_accuracy` of one model.

    Columns: input_language, output_language, setting, start_layer and chosen_layers (null where
    unpatched), checkpoint, step, tokens, phase, n, value, low, high; in the order of `pairs`, then
    of settings. Pairs that `pairs` does not name come last, sorted.
    """
    rows = accuracy.filter(pl.col("subset") == "all", pl.col("setting") != "self")
    at_layer = _at(rows, start_layer)
    unpatched = rows.filter(pl.col("setting").is_in(UNPATCHED)).join(
        at_layer, on=["input_language", "output_language"], how="semi"
    )
    return (
        pl.concat([at_layer, unpatched])
        .sort(
            _pair_rank(pairs),
            "input_language",
            "output_language",
            _rank("setting", (*UNPATCHED, *PATCHED)),
            "step",
            maintain_order=True,
        )
        .select(
            *("input_language", "output_language", "setting", "start_layer", "chosen_layers"),
            *(*CHECKPOINT_COLUMNS, "n", pl.col("accuracy").alias("value"), "low", "high"),
        )
    )


def start_layer_frame(pooled: pl.DataFrame) -> pl.DataFrame:
    """Accuracy per start layer and checkpoint over the pairs of two languages, a panel a setting.

    Rows of `src_unpatched` (start_layer null) say what the same concepts reach without a patch.
    `pooled` is as in `unpatched_frame`.

    Columns: panel (a setting), setting, start_layer, checkpoint, step, tokens, phase, pairs, n,
    value, low, high.
    """
    rows = pooled.filter(pl.col("setting") != "self", pool=TRANSLATION, measure="accuracy")
    patched = rows.filter(pl.col("start_layer").is_not_null()).with_columns(panel="setting")
    if patched.is_empty():
        raise _no_layer("best", rows)
    reference = rows.filter(setting="src_unpatched").join(
        patched.select("panel").unique(), how="cross"
    )
    both = pl.concat([patched, reference.select(patched.columns)])
    return both.sort(
        _rank("panel", PATCHED), "setting", "start_layer", "step", maintain_order=True
    ).select("panel", "setting", "start_layer", *CHECKPOINT_COLUMNS, "pairs", *_VALUES)


def outcome_frame(pooled: pl.DataFrame, start_layer: StartLayer | None) -> pl.DataFrame:
    """Share of each outcome per checkpoint over the pairs of two languages, a panel a setting.

    `pooled` is as in `unpatched_frame`; `start_layer` is that of the patched settings, None where
    only unpatched ones are wanted.

    Columns: panel, start_layer, chosen_layers, outcome, checkpoint, step, tokens, phase, pairs, n
    (answers of the panel), value, low, high.
    """
    rows = pooled.filter(
        pl.col("setting") != "self", pl.col("measure").is_in(OUTCOMES), pool=TRANSLATION
    )
    unpatched = rows.filter(pl.col("setting").is_in(UNPATCHED))
    chosen = unpatched if start_layer is None else pl.concat([unpatched, _at(rows, start_layer)])
    if chosen.is_empty():
        raise StudyError("concepts_pooled has no pairs of two languages; see `target_pairs`")
    panel, outcome = pl.col("setting").alias("panel"), pl.col("measure").alias("outcome")
    order = (_rank("panel", (*UNPATCHED, *PATCHED)), "step", _rank("outcome", OUTCOMES))
    return (
        chosen.with_columns(panel, outcome)
        .sort(*order, maintain_order=True)
        .select(
            *("panel", "start_layer", "chosen_layers", "outcome"),
            *(*CHECKPOINT_COLUMNS, "pairs", *_VALUES),
        )
    )


def difference_frame(
    comparisons: pl.DataFrame, start_layer: StartLayer, pairs: Sequence[tuple[str, str]] = ()
) -> pl.DataFrame:
    """Differences of the figure, each with its interval: of settings, over training and by pair.

    Panels: `settings`, `seen` minus each other setting over the pairs of two languages; `training`,
    every setting minus itself at the checkpoint before, over the same pairs; `pairs`, at the last
    checkpoint, `seen` minus what the same concepts reach without a patch, by target pair.
    `comparisons` is the table `concepts_comparisons` of one model.

    Columns: panel, series, checkpoint, step, tokens, phase, start_layer, chosen_layers, n, value,
    low, high, q, survives.
    """
    at_layer = _at(comparisons, start_layer)
    unpatched = comparisons.filter(pl.col("setting").is_in(UNPATCHED))
    pooled = pl.col("pool") == TRANSLATION
    against = at_layer.filter(comparison="setting")
    last = against.filter(pl.col("pool").is_null(), pl.col("step") == pl.col("step").max())
    changes = pl.concat([unpatched, at_layer]).filter(pooled, comparison="checkpoint")
    pair = pl.concat_str("input_language", pl.lit("→"), "output_language")
    parts = [
        against.filter(pooled)
        .with_columns(panel=pl.lit("settings"), series="reference_setting")
        .sort(_rank("series", REFERENCES), "step", maintain_order=True),
        changes.with_columns(panel=pl.lit("training"), series="setting").sort(
            _rank("series", (*UNPATCHED, *PATCHED)), "step", maintain_order=True
        ),
        last.filter(reference_setting="src_unpatched")
        .with_columns(panel=pl.lit("pairs"), series=pair)
        .sort(_pair_rank(pairs), "series", maintain_order=True),
    ]
    return pl.concat(parts).select(
        *("panel", "series", *CHECKPOINT_COLUMNS, "start_layer", "chosen_layers", "n"),
        *(pl.col("difference").alias("value"), "low", "high", "q", "survives"),
    )


def layer_note(data: pl.DataFrame) -> str:
    """What a figure says of its start layer: the one of `data`, or how it was chosen."""
    layers = data["chosen_layers"].drop_nulls().unique().to_list()
    if not layers:
        shown = data["start_layer"].drop_nulls().unique().to_list()
        return f"patched: start layer {shown[0]}" if shown else ""
    first, second = layers[0].split("|")
    which = f"layer {first}" if first == second else f"layers {first} and {second}"
    chosen = "best start layer, for each half of the concepts chosen on the other half"
    return f"patched: {chosen}: {which}"


def _at(rows: pl.DataFrame, start_layer: StartLayer) -> pl.DataFrame:
    """Patched rows from a start layer, or at the layers that were chosen."""
    if start_layer == "best":
        found = rows.filter(pl.col("chosen_layers").is_not_null())
    else:
        found = rows.filter(start_layer=start_layer)
    if found.is_empty():
        raise _no_layer(start_layer, rows)
    return found


def _rank(column: str, order: Sequence[str]) -> pl.Expr:
    """The place of `column` in `order`, to sort by."""
    places = {name: place for place, name in enumerate(order)}
    return pl.col(column).replace_strict(places, default=len(places), return_dtype=pl.Int32)


def _pair_rank(pairs: Sequence[tuple[str, str]]) -> pl.Expr:
    """The place of a row's language pair in `pairs`, to sort by."""
    written = pl.concat_str("input_language", pl.lit("→"), "output_language")
    places = {f"{given}→{asked}": place for place, (given, asked) in enumerate(pairs)}
    return written.replace_strict(places, default=len(places), return_dtype=pl.Int32)


def _no_layer(start_layer: StartLayer, rows: pl.DataFrame) -> StudyError:
    known = ", ".join(map(str, rows["start_layer"].drop_nulls().unique().sort()))
    if not known:
        return StudyError(
            "the tables have no patched answers; give `concepts.settings` one of seen, tgt, en_en, "
            "copy and `concepts.generate_at` a start layer"
        )
    return StudyError(
        f"nothing was generated from start layer {start_layer}; set `concepts.figure_start_layer` "
        f"to one of {known}, or to best"
    )
