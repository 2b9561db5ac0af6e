"""Describe one file or folder: a table, tensors, a manifest, a checkpoint."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.inspection.columns import meanings_of
from glossogenesis.inspection.content import (
    Inspection,
    Section,
    as_yaml,
    cell,
    damaged,
    kind_in_words,
    origin,
    provenance_in,
    provenance_in_json,
    provenance_sections,
    size_in_words,
)
from glossogenesis.storage.files import read_json
from glossogenesis.storage.provenance import LEFT_OUT, METADATA_KEY

JSON_WITH_PROVENANCE = ("manifest.json", "cfg.json", "quality.json")

Content = dict[str, Any]

MALFORMED = (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError)
"""What comes of a manifest that has other values than its kind has."""

WEIGHTS_FILE = "sae_weights.safetensors"
"""What lies beside an autoencoder's `cfg.json`; `sae` has the same name, but imports torch."""


def describe_parquet(path: Path, rows: int) -> Inspection:
    """Describe a Parquet file."""
    try:
        provenance = provenance_in(path, pl.read_parquet_metadata(path))
        return _describe_table(path, pl.scan_parquet(path), rows, provenance)
    except pl.exceptions.PolarsError as error:
        raise damaged(path, "Parquet file", error) from None


def describe_delimited(path: Path, rows: int) -> Inspection:
    """Describe a CSV or TSV file; a CSV beside a Parquet file of its name is a copy of it."""
    is_sheet = path.suffix == ".tsv"
    try:
        frame = pl.scan_csv(
            path, separator="\t" if is_sheet else ",", quote_char=None if is_sheet else '"'
        )
        table = _describe_table(path, frame, rows, None)
    except pl.exceptions.PolarsError as error:
        raise damaged(path, "table", error) from None
    twin = path.with_suffix(".parquet")
    if not twin.is_file():
        return table
    copied = ("copy of", f"{twin.name}, which carries the provenance")
    return Inspection(path, table.kind, (copied, *table.facts), table.sections)


def _describe_table(
    path: Path, frame: pl.LazyFrame, rows: int, provenance: Mapping[str, Any] | None
) -> Inspection:
    """Describe a table; only its first rows are kept in memory."""
    schema = frame.collect_schema()
    counts = frame.select(pl.len().alias(""), pl.all().null_count()).collect().row(0)
    first = frame.head(rows).collect()
    meanings = meanings_of(path, provenance)
    headers = ("column", "type", "empty cells", *(["meaning"] if meanings else []))
    columns = tuple(
        (name, str(dtype), f"{empty:,}", meanings.get(name, ""))[: len(headers)]
        for (name, dtype), empty in zip(schema.items(), counts[1:], strict=True)
    )
    shape = (("rows", f"{counts[0]:,}"), ("columns", str(len(columns))))
    shown = tuple(tuple(cell(value) for value in row) for row in first.rows())
    sections = (
        *provenance_sections(provenance),
        Section("Columns", headers, columns),
        Section(f"First rows ({first.height})", tuple(schema.names()), shown, records=True),
    )
    facts = (*shape, *origin(path, provenance))
    return Inspection(path, kind_in_words(path, provenance), facts, sections)


def describe_tensors(path: Path) -> Inspection:
    """Describe a safetensors file; tensors are read one at a time."""
    # torch takes seconds to import, and only values of tensors need it.

    try:
        with safe_open(str(path), framework="np") as file:
            provenance = provenance_in(path, file.metadata() or {})
        rows = tuple(tensor_rows(path))
    except SafetensorError as error:
        raise damaged(path, "safetensors file", error) from None
    headers = ("tensor", "type", "shape", "least", "mean", "greatest", "NaN")
    facts = (("tensors", f"{len(rows):,}"), *origin(path, provenance))
    sections = (*provenance_sections(provenance), Section("Tensors", headers, rows))
    return Inspection(path, kind_in_words(path, provenance), facts, sections)


def describe_checkpoint(path: Path) -> Inspection:
    """Describe a folder in the transformers format from its configuration and weights' headers."""
    config = read_json(path / "config.json")
    if not isinstance(config, dict):
        raise StudyError(f"{path / 'config.json'}: not a configuration, which is a JSON object")
    rows = []
    parameters = 0
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(str(file), framework="np") as tensors:
                names = tensors.keys()
                shapes = [tensors.get_slice(name).get_shape() for name in names]
        except SafetensorError as error:
            raise damaged(file, "safetensors file", error) from None
        weights = sum(math.prod(shape) for shape in shapes)
        parameters += weights
        size = size_in_words(file.stat().st_size)
        rows.append((file.name, size, f"{len(shapes):,}", f"{weights:,}"))
    facts = (
        ("architecture", str(config.get("model_type"))),
        ("weights", f"{parameters:,}"),
        ("tokenizer", "here" if (path / "tokenizer_config.json").is_file() else "not here"),
    )
    sections = (
        Section("Weights", ("file", "size", "tensors", "weights"), tuple(rows)),
        Section("Configuration", text=as_yaml(config)),
    )
    return Inspection(path, "checkpoint in the transformers format", facts, sections)


def describe_folder(path: Path) -> Inspection:
    """List the files below a folder, and add them up by kind; hidden ones are left out."""
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    listed = [(file, _kind_of_file(file), file.stat().st_size) for file in files]
    sizes: Counter[str] = Counter()
    for _, kind, size in listed:
        sizes[kind] += size
    number = Counter(kind for _, kind, _ in listed)
    kinds = tuple((kind, f"{number[kind]:,}", size_in_words(sizes[kind])) for kind in number)
    rows = tuple(
        (str(file.relative_to(path)), kind, size_in_words(size)) for file, kind, size in listed
    )
    facts = (("files", f"{len(files):,}"), ("size", size_in_words(sizes.total())))
    sections = (
        Section("Kinds", ("kind", "files", "size"), kinds),
        Section("Files", ("file", "kind", "size"), rows),
    )
    return Inspection(path, "folder", facts, sections)


def _kind_of_file(file: Path) -> str:
    """Return what a file is, from its own metadata where it has some."""
    provenance = None
    try:
        if file.suffix == ".parquet":
            provenance = provenance_in(file, pl.read_parquet_metadata(file))
        elif file.suffix == ".safetensors":
            with safe_open(str(file), framework="np") as tensors:
                provenance = provenance_in(file, tensors.metadata() or {})
        elif file.name in JSON_WITH_PROVENANCE:
            content = read_json(file)
            provenance = provenance_in_json(content) if isinstance(content, dict) else None
    except (pl.exceptions.PolarsError, SafetensorError, StudyError):
        return "damaged file"
    return kind_in_words(file, provenance)


def describe_json(path: Path) -> Inspection:
    """Describe a manifest, and whether the files that it names are in place; or any JSON file."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise StudyError(f"{path}: not a manifest, which is a JSON object")
    provenance = provenance_in_json(content)
    content.pop("provenance", None)
    kinds: dict[str, Callable[[Path, Content], Iterator[Section]]] = {
        "corpus": _shard_sections,
        "activations": _shard_sections,
        "quality": _quality_sections,
        "sae": _autoencoder_sections,
    }
    describe = kinds.get(str((provenance or {}).get("kind")), _weight_sections)
    try:
        facts = (provenance or {}).get("facts")
        if isinstance(facts, dict) and LEFT_OUT in facts:
            # Nothing but the provenance is there, which says why.
            describe = _weight_sections
        sections = tuple(describe(path, content))
    except (LookupError, *MALFORMED) as error:
        raise damaged(path, "manifest", error) from None
    return Inspection(
        path,
        kind_in_words(path, provenance),
        origin(path, provenance),
        (*sections, *provenance_sections(provenance)),
    )


def _weight_sections(path: Path, content: Content) -> Iterator[Section]:
    """The weights of a checkpoint, where a manifest names some."""
    weights: dict[str, Content] = content.pop("weights", None) or {}
    folder = Path(content.get("folder", path.parent))
    files = tuple(
        (
            name,
            size_in_words(facts["bytes"]),
            _state(folder / name, facts["bytes"]),
            cell(facts["sha256"]),
        )
        for name, facts in weights.items()
    )
    yield Section("Contents", text=as_yaml(content))
    if files:
        yield Section("Weights", ("file", "size", "on disk", "SHA-256"), files)


def _shard_sections(path: Path, content: Content) -> Iterator[Section]:
    """The splits of a corpus or of a layer's activations, and every shard."""
    splits: dict[str, Content] = content.pop("splits")
    vocabulary: Content | None = content.pop("vocabulary_file", None)
    yield Section("Contents", text=as_yaml(content))
    counted = next(([name for name in split if name != "shards"] for split in splits.values()), [])
    rows = tuple(
        (
            name,
            *(_counts(split[column]) for column in counted),
            f"{len(split['shards']):,}",
            size_in_words(sum(facts["bytes"] for facts in split["shards"])),
            _state_of_split(path.parent, split["shards"]),
        )
        for name, split in splits.items()
    )
    yield Section("Splits", ("split", *counted, "shards", "size", "on disk"), rows)
    shards = [facts for split in splits.values() for facts in split["shards"]]
    number = "contexts" if "contexts" in counted else "rows"
    files = tuple(
        (
            cell(facts["file"]),
            f"{facts[number]:,}" if facts[number] else "-",
            size_in_words(facts["bytes"]),
            _state(path.parent / facts["file"], facts["bytes"]),
            cell(facts["sha256"]),
        )
        for facts in (*shards, *([vocabulary] if vocabulary else []))
    )
    yield Section("Shards", ("file", number, "size", "on disk", "SHA-256"), files)


def _quality_sections(path: Path, content: Content) -> Iterator[Section]:
    """The measures of all tokens beside those of each language, and what concerns latents."""
    parts: dict[str, Content] = {"all": content, **content["by_language"]}
    measures = [name for name, value in content.items() if not isinstance(value, str | dict)]
    rows = tuple(
        (name, *(cell(part[name]) if name in part else "" for part in parts.values()))
        for name in measures
    )
    said = {name: value for name, value in content.items() if isinstance(value, str)}
    yield Section("Contents", text=as_yaml(said))
    yield Section("Measures", ("measure", *parts), rows)
    distributions = [name for name, value in content.items() if _is_distribution(value)]
    shares = list(content[distributions[0]]["quantiles"]) if distributions else []
    yield Section(
        "Latents",
        ("cosine", "mean", "minimum", *shares, "maximum"),
        tuple(_spread(name, content[name]) for name in distributions),
    )
    density = content["density"]
    edges = density["log10_edges"]
    bins = zip(edges, edges[1:], density["latents"], strict=False)
    filled = tuple((f"{low:g} to {high:g}", f"{number:,}") for low, high, number in bins if number)
    never = ("never", f"{density['never']:,}")
    yield Section("Firing frequency", ("log10 of the share of tokens", "latents"), (*filled, never))


def _autoencoder_sections(path: Path, content: Content) -> Iterator[Section]:
    """What SAELens reads, how training went, and whether the weights are there."""
    metadata: Content = content.pop("metadata")
    own: Content = metadata.pop(METADATA_KEY)
    own.pop("provenance")
    digest: str = own.pop("weights_sha256")
    training: Content = dict(own.pop("training"))
    rates: list[Content] = training.pop("held_out", [])
    yield Section("Contents", text=as_yaml(content))
    yield Section("Metadata", text=as_yaml(metadata))
    yield Section("In the words of this program", text=as_yaml(own))
    yield Section("Training", text=as_yaml(training))
    if rates:
        names = tuple(rates[0])
        rows = tuple(tuple(cell(rate[name]) for name in names) for rate in rates)
        yield Section("Learning rates on held-out tokens", names, rows)
    weights = path.with_name(WEIGHTS_FILE)
    there = weights.is_file()
    size = size_in_words(weights.stat().st_size) if there else "-"
    row = (WEIGHTS_FILE, size, "in place" if there else "missing", cell(digest))
    yield Section("Weights", ("file", "size", "on disk", "SHA-256"), (row,))


def _state(file: Path, size: int) -> str:
    """Say whether a file is where its manifest says, and in full."""
    if not file.is_file():
        return "missing"
    actual = file.stat().st_size
    return "in place" if actual == size else f"{actual:,} bytes instead of {size:,}"


def _state_of_split(folder: Path, shards: list[Content]) -> str:
    """Say how many shards of a split are in place, and what to do where none is there."""
    states = [_state(folder / facts["file"], facts["bytes"]) for facts in shards]
    if states and set(states) == {"missing"}:
        return "none; to have them again, delete this manifest and make it again"
    return f"{states.count('in place'):,} of {len(states):,} in place"


def _counts(value: int | Mapping[str, int]) -> str:
    """Return a number, or numbers by language, as text."""
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(f"{name} {number:,}" for name, number in value.items())


def _is_distribution(value: object) -> bool:
    return isinstance(value, dict) and "quantiles" in value


def _spread(name: str, value: Content) -> tuple[str, ...]:
    ends = (cell(value[end]) for end in ("mean", "minimum"))
    return (name, *ends, *map(cell, value["quantiles"].values()), cell(value["maximum"]))


def tensor_rows(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield name, type, shape, least, mean, greatest and number of NaN of each tensor, as text.

    Tensors are read one at a time. Numbers leave NaN out.
    """
    with safe_open(str(path), framework="pt") as file:
        for name in sorted(file.keys()):
            tensor: Tensor = file.get_tensor(name)
            shape = "[" + ", ".join(str(size) for size in tensor.shape) + "]"
            yield (name, str(tensor.dtype).removeprefix("torch."), shape, *_summary(tensor))


def _summary(tensor: Tensor) -> tuple[str, str, str, str]:
    """Return least, mean, greatest and number of NaN; the mean is taken in float64."""
    missing = tensor.isnan()
    numbers = tensor[~missing] if bool(missing.any()) else tensor
    count = f"{int(missing.sum()):,}"
    if numbers.numel() == 0:
        return "-", "-", "-", count
    mean = numbers.mean(dtype=torch.float64)
    return _short(numbers.min()), _short(mean), _short(numbers.max()), count


def _short(value: Tensor) -> str:
    return f"{float(value):.4g}"
