"""The (model, checkpoint, layer, autoencoder) setups of a study, and what tables say of them.

A study may lack setups: checkpoints that are not published or that diverged, layers that were left
out. The grid is what `features.grid` says, such as a paper's number of setups, or else every layer
of every row of the checkpoint sheet; of a model alone it is always the latter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.provenance import Provenance, settings_digest
from glossogenesis.study.sheet import Checkpoint

PolarsType = pl.DataType | type[pl.DataType]

CHECKPOINT_FACTS = pl.Schema(
    {
        "model": pl.String,
        "checkpoint": pl.String,
        "step": pl.Int64,
        "tokens": pl.Int64,
        "phase": pl.Int32,
    }
)

SETUP_FACTS = pl.Schema({**CHECKPOINT_FACTS, **pl.Schema({"layer": pl.Int32, "sae": pl.String})})
"""Columns that say which setup a row belongs to; `layer` is null where layers are pooled."""

DEPTH = "depth"
"""Third of the model's depth that a row is of, early, middle or late; `all` where all layers are
pooled, null where the depth is not known."""

EVERY_DEPTH = "all"

DEPTH_FACTS = pl.Schema({**SETUP_FACTS, **pl.Schema({DEPTH: pl.String})})

EVERY_MODEL = "all"
GRID_SCHEMA = pl.Schema(
    {
        "model": pl.String,
        "checkpoints": pl.Int64,
        "layers": pl.Int64,
        "n_layers": pl.Int64,
        "setups": pl.Int64,
        "grid": pl.Int64,
        "share": pl.Float64,
    }
)

REGIONS = ("early", "middle", "late")


@dataclass(frozen=True)
class Setup:
    """One autoencoder: trained on one layer of one checkpoint; `sae` is its name in paths."""

    row: Checkpoint
    layer: int
    sae: str

    n_layers: int | None = None
    """Of its model, where that is known."""

    @property
    def depth(self) -> str | None:
        """Third of the model's depth that its layer is in."""
        thirds = {} if self.n_layers is None else depth_thirds(self.n_layers)
        return next((name for name, layers in thirds.items() if self.layer in layers), None)

    @property
    def folder(self) -> Path:
        """Its folder below `results/sae`, `results/features` or `results/tracking`."""
        return Path(self.row.model, self.row.checkpoint, f"layer_{self.layer}", self.sae)

    def facts(self) -> pl.DataFrame:
        """One row of `SETUP_FACTS`."""
        named = {"layer": self.layer, "sae": self.sae}
        return checkpoint_facts(self.row).with_columns(
            pl.lit(value, SETUP_FACTS[name]).alias(name) for name, value in named.items()
        )


@dataclass
class Agreement:
    """Remembers what made the first file of each group, and refuses those that differ.

    Files of one group must share settings and code, and the inputs whose names hold one of `same`,
    such as the corpus.
    """

    same: tuple[str, ...] = ()
    first: dict[object, tuple[Path, dict[str, object]]] = field(default_factory=dict)

    def check(self, group: object, path: Path, origin: Provenance) -> None:
        """Refuse a file that was made in another way than the first of its group.

        Raises:
            StudyError: names both files and what differs.

        """
        mine = self._identity(origin)
        reference, expected = self.first.setdefault(group, (path, mine))
        differing = [name for name in mine if mine[name] != expected.get(name)]
        if differing:
            raise StudyError(
                f"{path}: made with other {' and '.join(differing)} than {reference}; "
                "remove the outdated one and run the workflow again"
            )

    def _identity(self, origin: Provenance) -> dict[str, object]:
        shared = {
            word: sorted(value for name, value in origin.inputs.items() if word in name)
            for word in self.same
        }
        return {"settings": settings_digest(origin.settings), "code": origin.code, **shared}


def setups(
    rows: Iterable[Checkpoint],
    layers: Mapping[str, Sequence[int]],
    saes: Sequence[str],
    depths: Mapping[str, int | None] | None = None,
) -> Iterator[Setup]:
    """Every setup in the order of the rows, then of the layers of a model, then of `saes`.

    `depths` has the number of layers of models, None of those whose depth is not known.
    """
    for row in rows:
        for layer in layers[row.model]:
            for sae in saes:
                yield Setup(row, layer, sae, (depths or {}).get(row.model))


def chosen_rows(
    sheet: Iterable[Checkpoint], checkpoints: Mapping[str, Sequence[str]]
) -> list[Checkpoint]:
    """Rows of the sheet for the checkpoints named of each model, in that order.

    Raises:
        StudyError: a checkpoint is not in the sheet.

    """
    known = {(row.model, row.checkpoint): row for row in sheet}
    wanted = [(model, name) for model, names in checkpoints.items() for name in names]
    if missing := [pair for pair in wanted if pair not in known]:
        model, name = missing[0]
        raise StudyError(
            f"the checkpoint sheet has no checkpoint {name!r} of model {model!r}; add a row, or "
            "correct the study"
        )
    return [known[pair] for pair in wanted]


def checkpoint_facts(row: Checkpoint) -> pl.DataFrame:
    """One row of the sheet as a frame of the columns that tables show."""
    return pl.DataFrame(
        [row.model_dump(include=set(CHECKPOINT_FACTS))], schema=dict(CHECKPOINT_FACTS)
    )


def schema_of_setups(
    columns: Mapping[str, PolarsType], facts: pl.Schema = SETUP_FACTS
) -> pl.Schema:
    """`SETUP_FACTS` or others, and the columns that a table has beside them."""
    return pl.Schema({**facts, **pl.Schema(columns)})


def with_setup(rows: pl.DataFrame, setup: Setup) -> pl.DataFrame:
    """Put the facts of a setup in front of its rows."""
    facts = setup.facts()
    placed = with_checkpoint(rows, facts.select(CHECKPOINT_FACTS.names()))
    own = [column for column in rows.columns if column not in SETUP_FACTS]
    return placed.with_columns(
        pl.lit(setup.layer, pl.Int32).alias("layer"), pl.lit(setup.sae).alias("sae")
    ).select(*SETUP_FACTS.names(), *own)


def with_depth(rows: pl.DataFrame, setup: Setup) -> pl.DataFrame:
    """Put the facts of a setup and its third of the depth, `DEPTH_FACTS`, in front of its rows."""
    placed = with_setup(rows, setup).with_columns(pl.lit(setup.depth, pl.String).alias(DEPTH))
    own = [column for column in rows.columns if column not in DEPTH_FACTS]
    return placed.select(*DEPTH_FACTS.names(), *own)


def require_columns(rows: pl.DataFrame, wanted: Mapping[str, Any], path: Path) -> None:
    """Refuse a table that lacks a column or has it with another type; None accepts any type."""
    for column, dtype in wanted.items():
        found = rows.schema.get(column)
        if found is None or (dtype is not None and found != dtype):
            raise StudyError(
                f"{path}: column {column} should be {dtype or 'there'}, is "
                f"{found or 'no such column'}; remove the file and run the workflow again"
            )


def grid_table(
    filled: Mapping[str, Collection[tuple[str, int]]],
    layers: Mapping[str, Sequence[int]],
    depths: Mapping[str, int | None],
    rows: Mapping[str, int],
    grid: int | None,
) -> pl.DataFrame:
    """A row a model and one for all, the model `all`; columns `GRID_SCHEMA`.

    Args:
        filled: checkpoints and layers that have features, by model.
        layers: that are covered, by model.
        depths: layers of each model; where that is not known, those that are covered stand for it.
        rows: of each model in the checkpoint sheet.
        grid: setups of the whole grid, where the study says so.
    """
    table = pl.DataFrame(
        {
            "model": list(filled),
            "checkpoints": [len({name for name, _ in setups}) for setups in filled.values()],
            "layers": [len(layers[model]) for model in filled],
            "n_layers": [depths[model] for model in filled],
            "setups": [len(setups) for setups in filled.values()],
            "grid": [rows[model] * (depths[model] or len(layers[model])) for model in filled],
        },
        schema_overrides={"n_layers": pl.Int64},
    )
    whole = table.select(
        pl.lit(EVERY_MODEL).alias("model"),
        pl.col("checkpoints").sum(),
        *(pl.lit(None, pl.Int64).alias(name) for name in ("layers", "n_layers")),
        pl.col("setups").sum(),
        pl.col("grid").sum() if grid is None else pl.lit(grid, pl.Int64).alias("grid"),
    )
    return pl.concat([table, whole]).with_columns(share=pl.col("setups") / pl.col("grid"))


def filled_share(grid: pl.DataFrame, model: str) -> str:
    """How much of the grid a model or `all` fills, as figures say it."""
    row = grid.filter(model=model).row(0, named=True)
    return f"{row['setups']:,} of {row['grid']:,} setups ({row['share']:.0%})"


def with_checkpoint(rows: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Put the facts of one checkpoint (a single row of `CHECKPOINT_FACTS`) in front of its rows.

    `chosen_layers` is null: see `rows_at_chosen` for others.
    """
    if facts.height != 1:
        raise ValueError(f"{facts.height} rows of checkpoint facts; exactly one belongs here")
    named = facts.cast(CHECKPOINT_FACTS).select(CHECKPOINT_FACTS.names())
    return named.join(rows, how="cross").with_columns(chosen_layers=pl.lit(None, pl.String))


def depth_thirds(n_layers: int) -> dict[str, range]:
    """Layers of each of `REGIONS`: equal thirds, the earlier ones longer by a layer at need.

    26 layers are 0-8, 9-17 and 18-25; 6 are 0-1, 2-3 and 4-5; 4 are 0-1, 2 and 3.
    """
    shorter, longer = divmod(n_layers, 3)
    ends = [third * shorter + min(third, longer) for third in range(4)]
    return {name: range(ends[third], ends[third + 1]) for third, name in enumerate(REGIONS)}
