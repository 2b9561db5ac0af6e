"""Describe a folder: a checkpoint in the transformers format, or any folder with its artifacts."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import polars as pl
from safetensors import SafetensorError, safe_open

from glossogenesis.errors import StudyError
from glossogenesis.inspection.content import (
    Inspection,
    Section,
    as_yaml,
    damaged,
    kind_in_words,
    provenance_in,
    provenance_in_json,
    size_in_words,
)
from glossogenesis.storage.files import read_json

JSON_WITH_PROVENANCE = ("manifest.json", "cfg.json", "quality.json")


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
                shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118  # safe_open is no mapping
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
