"""The numbers behind the figures of the concepts study: rows of its tables, chosen and pooled.

Pooling over language pairs weighs them by their answers. The pooled interval is the mean of the
pairs' lower and upper ends: pairs ask about the same concepts, so their errors go together, and a
standard error of a mean is never above the mean of the standard errors. The pooled band is
therefore on the wide side.

Every function raises a StudyError where the table has no rows for its figure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from glossogenesis.errors import StudyError
from glossogenesis.figures.checkpoint_axis import CHECKPOINT_COLUMNS
from glossogenesis.patching.scoring import OUTCOMES

PanelBy = Literal["setting", "pair"]
UNPATCHED = ("tgt_unpatched", "src_unpatched")
PATCHED = ("seen", "tgt", "en_en", "copy", "self")


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


def unpatched_frame(accuracy: pl.DataFrame, languages: Languages) -> pl.DataFrame:
    """Accuracy of the unpatched target prompts per checkpoint, kind of pair and output language.

    Kinds, in this order: `copying` (one language twice), `pivot` (pairs with the pivot language),
    `no_pivot`, and `unseen` (a language of the pair was not in pretraining). `accuracy` is the
    table `concepts_accuracy` of one model.

    Columns: kind, output_language, group, checkpoint, step, tokens, phase, pairs, n, value, low,
    high.
    """
    rows = accuracy.filter(setting="tgt_unpatched", subset="all")
    if rows.is_empty():
        raise StudyError(
            "concepts_accuracy has no rows of setting tgt_unpatched; tabulate it again"
        )
    codes = {*rows["input_language"], *rows["output_language"]}
    if unknown := sorted(codes - set(languages.groups)):
        raise StudyError(f"language {unknown[0]!r} has results but no entry under `languages`")
    sides = (pl.col("input_language"), pl.col("output_language"))
    kind = (
        pl.when(sides[0] == sides[1])
        .then(pl.lit("copying"))
        .when(pl.any_horizontal(side.is_in(sorted(languages.unseen)) for side in sides))
        .then(pl.lit("unseen"))
        .when(pl.any_horizontal(side == languages.pivot for side in sides))
        .then(pl.lit("pivot"))
        .otherwise(pl.lit("no_pivot"))
    )
    pooled = _pool(rows.with_columns(kind=kind), ["kind", "output_language"], "correct")
    group = pl.col("output_language").replace_strict(dict(languages.groups), return_dtype=pl.String)
    kinds = ("copying", "pivot", "no_pivot", "unseen")
    return (
        pooled.with_columns(group=group)
        .sort(_rank("kind", kinds), _rank("output_language", languages.codes), maintain_order=True)
        .select(
            "kind",
            "output_language",
            "group",
            *CHECKPOINT_COLUMNS,
            "pairs",
            "n",
            "value",
            "low",
            "high",
        )
    )


def best_start_layer(accuracy: pl.DataFrame, unseen: Collection[str] = ()) -> int:
    """The start layer with the highest accuracy, pooled over target pairs, at the last checkpoint.

    It is chosen by the first patched setting that was run, in the order seen, tgt, en_en, copy; the
    lowest of equals. Pairs are pooled as in `start_layer_frame`.
    """
    rows = _translations(accuracy, unseen).filter(subset="all")
    for setting in PATCHED[:-1]:
        pooled = _pool(rows.filter(setting=setting), ["start_layer"], "correct")
        if not pooled.is_empty():
            last = pooled.filter(pl.col("step") == pl.col("step").max())
            best = last.sort(["value", "start_layer"], descending=[True, False]).row(0, named=True)
            return int(best["start_layer"])
    raise StudyError(
        "concepts_accuracy has no patched answers; give `concepts.settings` one of seen, tgt, "
        "en_en, copy and `concepts.generate_at` a start layer"
    )


def patched_frame(
    accuracy: pl.DataFrame, start_layer: int, pairs: Sequence[tuple[str, str]] = ()
) -> pl.DataFrame:
    """Accuracy per target pair, setting and checkpoint, patched from `start_layer` or not at all.

    Only pairs that were patched; `self` is a control that must equal `tgt_unpatched`, and is left
    out.

    Columns: input_language, output_language, setting, start_layer (null where unpatched),
    checkpoint, step, tokens, phase, n, value, low, high; in the order of `pairs`, then of settings.
    Pairs that `pairs` does not name come last, sorted.
    """
    rows = accuracy.filter(pl.col("subset") == "all", pl.col("setting") != "self")
    at_layer = rows.filter(start_layer=start_layer)
    if at_layer.is_empty():
        raise _no_layer(start_layer, rows)
    unpatched = _of_same_pairs(rows.filter(pl.col("setting").is_in(UNPATCHED)), at_layer)
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
            "input_language",
            "output_language",
            "setting",
            "start_layer",
            *CHECKPOINT_COLUMNS,
            "n",
            pl.col("accuracy").alias("value"),
            "low",
            "high",
        )
    )


def start_layer_frame(
    accuracy: pl.DataFrame,
    by: PanelBy = "setting",
    setting: str = "seen",
    unseen: Collection[str] = (),
) -> pl.DataFrame:
    """Accuracy per start layer and checkpoint, a panel a setting or, of one `setting`, a pair.

    Panels of settings pool the pairs of two different languages, without those of the `unseen`
    languages where there are others. Rows of `src_unpatched` (start_layer null) say what the same
    concepts reach without a patch.

    Columns: panel (a setting, or `es→en`), setting, start_layer, checkpoint, step, tokens, phase,
    pairs, n, value, low, high.
    """
    rows = _translations(accuracy, unseen if by == "setting" else ()).filter(subset="all")
    patched = rows.filter(pl.col("start_layer").is_not_null(), pl.col("setting") != "self")
    reference = _of_same_pairs(rows.filter(setting="src_unpatched"), patched)
    pair = pl.concat_str("input_language", pl.lit("→"), "output_language")
    if by == "pair":
        patched = patched.filter(setting=setting).with_columns(panel=pair)
        reference = reference.with_columns(panel=pair)
    else:
        patched = patched.with_columns(panel=pl.col("setting"))
        reference = reference.join(patched.select(panel="setting").unique(), how="cross")
    if patched.is_empty():
        wanted = "a patched setting" if by == "setting" else f"setting {setting}"
        raise StudyError(
            f"concepts_accuracy has no answers of {wanted}; see `concepts.settings` and "
            "`concepts.generate_at`"
        )
    both = pl.concat([patched, reference.select(patched.columns)])
    pooled = _pool(both, ["panel", "setting", "start_layer"], "correct")
    return pooled.sort(
        *([_rank("panel", PATCHED)] if by == "setting" else ["panel"]), maintain_order=True
    ).select(
        *("panel", "setting", "start_layer", *CHECKPOINT_COLUMNS),
        *("pairs", "n", "value", "low", "high"),
    )


def outcome_frame(
    outcomes: pl.DataFrame,
    start_layer: int | None,
    by: PanelBy = "setting",
    setting: str = "seen",
    unseen: Collection[str] = (),
) -> pl.DataFrame:
    """Share of each outcome per checkpoint, a panel a setting or, of one `setting`, a pair.

    Panels of settings pool pairs as in `start_layer_frame`. `outcomes` is the table
    `concepts_outcomes` of one model; `start_layer` is that of the patched settings, None where only
    unpatched ones are wanted.

    Columns: panel, outcome, checkpoint, step, tokens, phase, pairs, n (answers of the panel),
    value, low, high.
    """
    rows = _translations(outcomes, unseen if by == "setting" else ())
    rows = rows.filter(pl.col("setting") != "self")
    chosen = rows.filter(pl.col("setting").is_in(UNPATCHED))
    if start_layer is not None:
        patched = rows.filter(start_layer=start_layer)
        if patched.is_empty():
            raise _no_layer(start_layer, rows)
        chosen = pl.concat([_of_same_pairs(chosen, patched), patched])
    if by == "pair":
        pair = pl.concat_str("input_language", pl.lit("→"), "output_language")
        chosen = chosen.filter(setting=setting).with_columns(panel=pair)
    else:
        chosen = chosen.with_columns(panel=pl.col("setting"))
    if chosen.is_empty():
        raise StudyError(
            f"concepts_outcomes has no rows of setting {setting}; see `concepts.settings`"
        )
    pooled = _pool(chosen, ["panel", "outcome"], "count")
    order = [_rank("panel", (*UNPATCHED, *PATCHED))] if by == "setting" else ["panel"]
    return pooled.sort(*order, "step", _rank("outcome", OUTCOMES), maintain_order=True).select(
        "panel", "outcome", *CHECKPOINT_COLUMNS, "pairs", "n", "value", "low", "high"
    )


def _translations(table: pl.DataFrame, unseen: Collection[str]) -> pl.DataFrame:
    """Rows of two different languages: copying is another task and would blur a pooled share.

    So would languages that pretraining never saw; their pairs stay only where all are such.
    """
    rows = table.filter(pl.col("input_language") != pl.col("output_language"))
    sides = (pl.col("input_language"), pl.col("output_language"))
    seen = rows.filter(~pl.any_horizontal(side.is_in(sorted(unseen)) for side in sides))
    is_patched = pl.col("start_layer").is_not_null()
    return rows if seen.filter(is_patched).is_empty() else seen


def _of_same_pairs(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Rows whose language pair occurs in `others`, so that both are pooled over the same pairs."""
    return rows.join(others, on=["input_language", "output_language"], how="semi")


def _pool(rows: pl.DataFrame, keys: Sequence[str], hits: str) -> pl.DataFrame:
    """Pool over the language pairs of each checkpoint and combination of `keys`.

    An end is null where a pair has none.
    """
    ends = [
        pl.when(pl.col(end).null_count() == 0)
        .then((pl.col(end) * pl.col("n")).sum() / pl.col("n").sum())
        .alias(end)
        for end in ("low", "high")
    ]
    return (
        rows.group_by(*CHECKPOINT_COLUMNS, *keys, maintain_order=True)
        .agg(
            *ends,
            pairs=pl.len(),
            n=pl.col("n").sum(),
            value=pl.col(hits).sum() / pl.col("n").sum(),
        )
        .sort(*keys, "step", maintain_order=True)
    )


def _rank(column: str, order: Sequence[str]) -> pl.Expr:
    """The place of `column` in `order`, to sort by."""
    places = {name: place for place, name in enumerate(order)}
    return pl.col(column).replace_strict(places, default=len(places), return_dtype=pl.Int32)


def _pair_rank(pairs: Sequence[tuple[str, str]]) -> pl.Expr:
    """The place of a row's language pair in `pairs`, to sort by."""
    written = pl.concat_str("input_language", pl.lit("→"), "output_language")
    places = {f"{given}→{asked}": place for place, (given, asked) in enumerate(pairs)}
    return written.replace_strict(places, default=len(places), return_dtype=pl.Int32)


def _no_layer(start_layer: int, rows: pl.DataFrame) -> StudyError:
    known = ", ".join(map(str, rows["start_layer"].drop_nulls().unique().sort()))
    return StudyError(
        f"nothing was generated from start layer {start_layer}; set `concepts.figure_start_layer` "
        f"to one of {known or 'those in concepts.generate_at'}, or to best"
    )
