"""What the jobs of the robustness study leave behind: read, and checked to belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import read_json
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tables import read_provenance, read_table
from glossogenesis.study.setups import Agreement, PolarsType, require_columns

MEASURED = pl.Schema(
    {
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "interval": pl.String,  # what low and high are; null where there is no interval
        "n": pl.Int64,
        "runs": pl.Int64,  # that the row is over; null in a row of one of several runs
    }
)
"""The last columns of every table."""

MODEL_FACTS = pl.Schema({"model": pl.String, "checkpoint": pl.String, "seed": pl.Int64})
"""The first columns of every table of one model a row; rows over runs have no seed."""

OF_A_MODEL = ("layers", "model", "dtype", "add_special_tokens")
"""Settings in which jobs on two models may differ without measuring another thing."""


@dataclass(frozen=True)
class ComparedModel:
    """One run of a model: the checkpoint that was fine-tuned, with which seed, and its layers."""

    model: str
    checkpoint: str
    layers: tuple[int, ...]
    tokenizer: str
    """The model whose tokenised posts it was given."""
    seed: int

    @property
    def facts(self) -> dict[str, Any]:
        """The first columns of its rows."""
        return {"model": self.model, "checkpoint": self.checkpoint, "seed": self.seed}

    @property
    def folder(self) -> Path:
        """Its folder below that of a stage."""
        return Path(self.model, self.checkpoint, f"seed_{self.seed}")


def compared_models(
    models: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]
) -> list[ComparedModel]:
    """The runs of all models of the settings, in their order."""
    return [
        ComparedModel(model, facts["checkpoint"], tuple(facts["layers"]), facts["tokenizer"], seed)
        for model, facts in models.items()
        for seed in seeds
    ]


@dataclass
class Results:
    """The folder of a study's results; remembers what was read, and refuses what does not agree.

    Files of one kind must share their settings but for `OF_A_MODEL`, their code and the posts, over
    all models; files of one run the classifier.
    """

    folder: Path
    inputs: dict[str, Path] = field(default_factory=dict)
    agreement: Agreement = field(default_factory=lambda: Agreement(("posts",)))
    classifiers: Agreement = field(default_factory=lambda: Agreement(("classifier",)))

    def table(self, name: Path | str, wanted: Mapping[str, Any], model: str = "") -> pl.DataFrame:
        """The columns `wanted` of the table at `name`, a path below the folder.

        `model` is the model that it is about, if there is one.

        Raises:
            StudyError: it is missing or damaged, lacks a column, or was made in another way than
                its like.

        """
        path = self._accepted(name, model)
        table = read_table(path)
        require_columns(table, wanted, path)
        return table.select(wanted.keys())

    def facts(self, name: Path | str, wanted: Iterable[str]) -> dict[str, Any]:
        """The facts in the provenance of the table at `name`; StudyError where one is missing."""
        path = self.folder / name
        found = read_provenance(path).facts
        if missing := [fact for fact in wanted if fact not in found]:
            raise StudyError(
                f"{path}: its provenance has no fact {missing[0]!r}; remove the file and run the "
                "workflow again"
            )
        self.inputs[Path(name).as_posix()] = path
        return dict(found)

    def tokenizer_digest(self, model: ComparedModel) -> str:
        """Digest of the tokenizer that cut the posts for a model.

        The manifest is read as plain JSON: reading a corpus takes torch, which tables do not need.
        """
        name = Path("posts", model.tokenizer, "manifest.json")
        path = self.folder / name
        content = read_json(path)
        if "tokenizer_digest" not in content:
            raise StudyError(f"{path}: no entry 'tokenizer_digest'; remove it and rerun")
        self.inputs[name.as_posix()] = path
        return str(content["tokenizer_digest"])

    def _accepted(self, name: Path | str, model: str) -> Path:
        path = self.folder / name
        origin = read_provenance(path)
        # The baseline's predictions are another job's than those of models.
        kind = (Path(name).parts[0], Path(name).name, bool(model))
        self.agreement.check(kind, path, _without_model(origin))
        if model and "classifier" in origin.inputs:
            classifier = {"classifier": origin.inputs["classifier"]}
            bare = replace(origin, settings={}, code="", inputs=classifier)
            # A stage, the model, its checkpoint and the seed are the first parts of every path.
            self.classifiers.check(Path(name).parts[1:4], path, bare)
        self.inputs[Path(name).as_posix()] = path
        return path


def _without_model(origin: Provenance) -> Provenance:
    """What must agree between models: settings but for `OF_A_MODEL`, code, and the posts."""
    settings = {key: value for key, value in origin.settings.items() if key not in OF_A_MODEL}
    posts = {name: value for name, value in origin.inputs.items() if name == "posts"}
    return replace(origin, settings=settings, inputs=posts)


def layers_with_saes(
    models: Sequence[ComparedModel], saes: Sequence[str]
) -> Iterator[tuple[ComparedModel, int, str]]:
    """Every autoencoder: model by model, layer by layer, then in the order of `saes`."""
    for model in models:
        for layer in model.layers:
            for sae in saes:
                yield model, layer, sae


def frame_of(rows: Sequence[Mapping[str, Any]], schema: pl.Schema) -> pl.DataFrame:
    """Rows as a table of this schema; NaN becomes null, and so does what a row does not name."""
    full = [{name: row.get(name) for name in schema} for row in rows]
    floats = [name for name, dtype in schema.items() if dtype == pl.Float64]
    return pl.DataFrame(full, schema).with_columns(pl.col(floats).fill_nan(None))


def shortest_digits(column: str) -> pl.Expr:
    """A float32 column as float64 of the digits that it was written with: 0.01, not 0.00999..."""
    return pl.col(column).cast(pl.String).cast(pl.Float64)


def table_schema(
    before: Mapping[str, PolarsType], after: Mapping[str, PolarsType] | None = None
) -> pl.Schema:
    """`MODEL_FACTS`, what says what was measured, `MEASURED`, and what is cells beside it."""
    return pl.Schema({**MODEL_FACTS, **pl.Schema(before), **MEASURED, **pl.Schema(after or {})})


SHARED_SCHEMA = table_schema({})
"""The columns that all of these tables have."""
