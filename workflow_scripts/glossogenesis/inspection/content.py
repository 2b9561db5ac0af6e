"""What is shown of a file or folder, and how values, sizes and provenance become text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from glossogenesis.errors import StudyError
from glossogenesis.storage.provenance import METADATA_KEY

KINDS = {
    ("pretraining", ".json"): "manifest of a pretraining run",
    ("pretraining", ".parquet"): "loss and learning rate of a pretraining run",
    ("pretraining", ".safetensors"): "weights of a pretrained checkpoint",
    ("checkpoint", ".json"): "manifest of a checkpoint",
    ("prompts", ".parquet"): "prompts of a model with their tokens",
    ("states", ".safetensors"): "source states of a checkpoint",
    ("patching", ".parquet"): "answers of a checkpoint, patched and unpatched",
    ("concepts_accuracy", ".parquet"): "accuracies of all checkpoints",
    ("concepts_outcomes", ".parquet"): "outcomes of all checkpoints",
    ("concepts_pooled", ".parquet"): "shares over several language pairs, of all checkpoints",
    ("concepts_probability", ".parquet"): "first-token probabilities of all checkpoints",
    ("concepts_comparisons", ".parquet"): "comparisons of settings and checkpoints",
    ("corpus", ".json"): "manifest of a tokenised corpus",
    ("corpus", ".safetensors"): "shard of a tokenised corpus",
    ("corpus", ".parquet"): "vocabulary of a tokenised corpus",
    ("activations", ".json"): "manifest of a layer's activations",
    ("activations", ".safetensors"): "shard of a layer's activations",
    ("embeddings", ".safetensors"): "vectors of a model's tokens",
    ("sae", ".json"): "configuration of a sparse autoencoder",
    ("sae", ".safetensors"): "weights of a sparse autoencoder",
    ("sae", ".parquet"): "training steps of a sparse autoencoder",
    ("quality", ".json"): "quality of a sparse autoencoder",
    ("recovery", ".parquet"): "cross-entropy that a checkpoint's sparse autoencoders recover",
    ("features", "statistics.parquet"): "statistics and labels of features",
    ("features", "examples.parquet"): "examples of features",
    ("features", "sensitivity.parquet"): "labels of features under other choices",
    ("matches", ".parquet"): "features matched with those of the checkpoint before",
    ("seeds", ".parquet"): "agreement of sparse autoencoders of different seeds",
    ("injection_perplexity", ".parquet"): "perplexity of a checkpoint with features injected",
    ("injection_translation", ".parquet"): "translations of a checkpoint with features injected",
    ("features_languages", ".parquet"): "languages of the features of all checkpoints",
    ("features_monosemanticity", ".parquet"): "monosemanticity of all checkpoints",
    ("features_quality", ".parquet"): "quality of the sparse autoencoders of all checkpoints",
    ("features_stages", ".parquet"): "three stages of bilingual features, tested",
    ("features_sensitivity", ".parquet"): "labels under other choices of all checkpoints",
    ("features_grid", ".parquet"): "share of the grid of setups that is covered",
    ("features_tracking", ".parquet"): "features followed over all checkpoints",
    ("features_injection", ".parquet"): "injections into all checkpoints, with their controls",
    ("posts", ".parquet"): "labelled posts and their splits",
    ("tokenised_posts", ".json"): "manifest of tokenised posts",
    ("tokenised_posts", ".safetensors"): "shard of tokenised posts",
    ("tokenised_posts", ".parquet"): "vocabulary of tokenised posts",
    ("baseline", ".parquet"): "predictions of the baseline",
    ("classifier", ".json"): "manifest of a classifier",
    ("classifier", ".safetensors"): "weights of a classifier",
    ("classifier", ".parquet"): "metrics of a classifier by epoch",
    ("predictions", ".parquet"): "predictions of a classifier",
    ("predictions", ".safetensors"): "mean-pooled final states of a classifier",
    ("pairs", ".parquet"): "pairs of clean and corrupted posts",
    ("component_effects", ".parquet"): "effects of components on every pair",
    ("circuit", ".parquet"): "circuits of a classifier at every threshold",
    ("circuit_ablations", ".parquet"): "right answers with circuits ablated",
    ("label_features", "labels.parquet"): "effect sizes of features and labels",
    ("label_features", "features.parquet"): "features of a classifier",
    ("label_features", "cues.parquet"): "cues of the top features of labels",
    ("label_features", "posts.parquet"): "sparsity and reconstruction of every post",
    ("knockout", ".parquet"): "right answers with features knocked out",
    ("spelling_variants", ".parquet"): "survival of features between spellings",
    ("robustness_classification", ".parquet"): "accuracy and macro F1 of all classifiers",
    ("robustness_circuit", ".parquet"): "effects and circuits of all classifiers",
    ("robustness_features", ".parquet"): "sparsity and label-specific features of all classifiers",
    ("robustness_knockout", ".parquet"): "knockouts of all classifiers, with their controls",
    ("robustness_cues", ".parquet"): "cues of the labels of all classifiers",
    ("robustness_variants", ".parquet"): "spelling variants in all classifiers",
    ("robustness_comparisons", ".parquet"): "differences between classifiers, tested",
}
"""Artifacts by the `kind` in their provenance, and by the end of their names or, where files of one
kind differ, by their whole names; results/README.md uses the same words."""

OTHER_KINDS = {
    ".csv": "numbers as text",
    ".tsv": "sheet",
    ".svg": "figure",
    ".pdf": "figure",
    ".html": "report",
    ".parquet": "table without provenance",
    ".safetensors": "weights of a model",
    ".json": "configuration or tokenizer of a model",
}
"""Files that carry no provenance, by the end of their names."""

LONGEST_TEXT = 400
LONGEST_LIST = 12

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Section:
    """A titled table, or a text where `headers` is empty.

    `records` marks rows of data, which are laid out one below the other where they are wide.
    """

    title: str
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    text: str = ""
    records: bool = False


@dataclass(frozen=True)
class Inspection:
    """Everything that is shown of one file or folder."""

    path: Path
    kind: str
    facts: Facts
    sections: tuple[Section, ...]


def kind_in_words(path: Path, provenance: Mapping[str, Any] | None) -> str:
    """Return what a file is, by its provenance or else by the end of its name."""
    if provenance is None:
        return OTHER_KINDS.get(path.suffix, "other file")
    kind = str(provenance.get("kind"))
    return KINDS.get((kind, path.name), KINDS.get((kind, path.suffix), kind))


def provenance_in(path: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the provenance in a file's metadata, None where it has none.

    It is returned as a dict, not as a `Provenance`, so that files of any version can be shown.
    """
    if METADATA_KEY not in metadata:
        return None
    try:
        content = json.loads(metadata[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise damaged(path, "provenance", error) from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: its provenance is no JSON object; delete it and rerun")
    return content


def provenance_in_json(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the provenance in a manifest or in an autoencoder's `cfg.json`, None without one."""
    provenance = content.get("provenance")
    if provenance is None and isinstance(metadata := content.get("metadata"), dict):
        own = metadata.get(METADATA_KEY)
        provenance = own.get("provenance") if isinstance(own, dict) else None
    return provenance if isinstance(provenance, dict) else None


def origin(path: Path, provenance: Mapping[str, Any] | None) -> Facts:
    """Return a file's size, and what of its provenance fits a line each."""
    size = ("size", size_in_words(path.stat().st_size))
    if provenance is None:
        return (size, ("provenance", "no provenance"))
    names = ("study", "model", "checkpoint", "revision", "layer", "seed", "dtype", "device", "code")
    known = tuple(
        (name, str(provenance[name])) for name in names if provenance.get(name) is not None
    )
    libraries = ", ".join(
        f"{name} {version}" for name, version in _items(provenance.get("libraries"))
    )
    schema_version = str(provenance.get("schema_version"))
    return (size, *known, ("libraries", libraries), ("schema version", schema_version))


def provenance_sections(provenance: Mapping[str, Any] | None) -> Iterator[Section]:
    """Yield the digests of inputs, the settings used and other facts, of those that there are."""
    if provenance is None:
        return
    if inputs := _items(provenance.get("inputs")):
        rows = tuple((name, cell(digest)) for name, digest in inputs)
        yield Section("Made from", ("input", "SHA-256"), rows)
    yield Section("Settings used", text=as_yaml(provenance.get("settings")))
    if facts := provenance.get("facts"):
        yield Section("Facts", text=as_yaml(facts))


def _items(content: Any) -> list[tuple[str, Any]]:
    """Return what a mapping holds, nothing where a file of another kind has none there."""
    return list(content.items()) if isinstance(content, dict) else []


def as_yaml(content: Any) -> str:
    """Return a mapping as YAML, a key a line, with short lists and mappings on one line."""
    if not content:
        return "none"
    if not isinstance(content, dict):
        return cell(content)
    lines: list[str] = []
    for key, value in content.items():
        flow = None if isinstance(value, list | dict) and value else False
        lines.append(
            yaml.safe_dump(
                {key: value},
                allow_unicode=True,
                sort_keys=False,
                default_flow_style=flow,
                width=100,
            )
        )
    return "".join(lines).rstrip()


def size_in_words(size: float) -> str:
    """Return a number of bytes as, for example, `3.4 GB` (powers of 1000)."""
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def cell(value: Any) -> str:
    """Return a value as text, cut only where it is very long, and then with its true length."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        shown = ", ".join(cell(item) for item in value[:LONGEST_LIST])
        more = len(value) - LONGEST_LIST
        return f"[{shown}, … {more} more]" if more > 0 else f"[{shown}]"
    text = str(value).replace("\n", "⏎")
    if len(text) > LONGEST_TEXT:
        return f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"
    return text


def damaged(path: Path, what: str, error: Exception) -> StudyError:
    """Return the error of a file that cannot be read to its end."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return StudyError(f"{path}: damaged {what} ({reason}); delete it and rerun the workflow")
