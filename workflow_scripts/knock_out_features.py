"""Remove each label's top features from a classifier, and count what it still gets right.

Every layer and label, on all held-out posts; beside it nothing removed, random features, features
that fire as often, and the top features of other labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from glossogenesis.corpora.posts import Posts
from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.residuals import check_layers
from glossogenesis.progress import progress
from glossogenesis.robustness.knockout.knockout import (
    LayerKnockout,
    Removal,
    check_in_float32,
    knock_out,
)
from glossogenesis.robustness.knockout.sets import (
    CONDITIONS,
    KNOCKOUT_SCHEMA,
    FeatureSet,
    LayerPredictions,
    knockout_rows,
    knockout_sets,
)
from glossogenesis.robustness.label_effects import firing_frequencies, top_features_by_label
from glossogenesis.robustness.tokenised_posts import open_classifier
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.files import WEIGHTS_FILE, check_origin, read_config, read_sae
from glossogenesis.sae.recovery import layers_in_memory
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.storage.provenance import file_digest
from glossogenesis.storage.tables import read_provenance, read_table, write_table
from glossogenesis.study.robustness import KnockoutSettings
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


@dataclass(frozen=True)
class LayerFiles:
    """What is read of one layer."""

    weights: Path
    labels: Path
    features: Path


def main() -> None:
    """Write the knockouts of one classifier with one kind of autoencoder."""
    arguments = program_arguments(
        __doc__,
        classifier={"help": "manifest of the classifier"},
        corpus={"help": "manifest of the tokenised posts"},
        posts={"help": "table of posts"},
        saes={"help": "folder of layer_{layer}/{sae}/sae_weights.safetensors"},
        features={"help": "folder of layer_{layer}/{sae}/{labels,features}.parquet"},
        batch_size={"type": int, "help": "posts in one forward pass"},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        output={"help": "table, Parquet"},
    )
    settings = arguments.settings
    opened = open_classifier(
        arguments.classifier,
        arguments.corpus,
        arguments.posts,
        dtype=settings["dtype"],
        device=arguments.device,
    )
    files, token_ids = files_of_layers(arguments), opened.held_out.token_ids
    check_layers(opened.anatomy, list(files), opened.name)
    sets = {
        layer: sets_of_layer(layer, opened.manifest, files[layer], opened.posts, settings)
        for layer in files
    }
    run = Run(opened.anatomy, opened.posts, token_ids, settings, arguments.batch_size)
    exact = check_in_float32(opened.anatomy, token_ids, list(files))
    bootstrap = Bootstrap(settings["resamples"], settings["seed"])
    rows = [
        row
        for found in run.predictions({layer: files[layer].weights for layer in files}, sets)
        for row in knockout_rows(found, bootstrap)
    ]
    table = pl.DataFrame(rows, schema=KNOCKOUT_SCHEMA).sort(
        "layer", "label", pl.col("condition").cast(pl.Enum(CONDITIONS)), "draw"
    )
    inputs = {name: getattr(arguments, name) for name in ("classifier", "corpus", "posts")}
    for layer, of_layer in files.items():
        inputs |= {f"{name}_layer_{layer}": path for name, path in vars(of_layer).items()}
    provenance = provenance_of(
        arguments,
        "knockout",
        inputs,
        **opened.manifest.origin,
        seed=settings["seed"],
        dtype=settings["dtype"],
        device=opened.anatomy.device.type,
        facts={"sae": settings["sae"], **exact.facts},
    )
    write_table(arguments.output, table, provenance)


@dataclass(frozen=True)
class Run:
    """A classifier and the posts that features are removed from."""

    anatomy: Anatomy
    posts: Posts
    token_ids: Sequence[Sequence[int]]
    """Of the held-out posts, by number."""
    settings: Mapping[str, Any]
    batch_size: int

    def predictions(
        self, weights: Mapping[int, Path], sets: Mapping[int, Sequence[FeatureSet]]
    ) -> Iterator[LayerPredictions]:
        """Knock out every set of every layer.

        As many layers' autoencoders are in memory as fit; each group of layers reads posts again.
        """
        layers = list(weights)
        latents = max(int(read_config(path)["d_sae"]) for path in weights.values())
        at_once = layers_in_memory(latents, self.anatomy.d_model)
        groups = [layers[start : start + at_once] for start in range(0, len(layers), at_once)]
        total = len(layers) * len(self.token_ids)
        with progress(total=total, label="knock out features", unit="post") as bar:
            for group in groups:
                saes = {
                    layer: read_sae(weights[layer], d_model=self.anatomy.d_model).to(
                        self.anatomy.device
                    )
                    for layer in group
                }
                yield from self._of_group(saes, sets, bar.update)

    def _of_group(
        self,
        saes: Mapping[int, SparseAutoencoder],
        sets: Mapping[int, Sequence[FeatureSet]],
        done: Callable[[int], object],
    ) -> list[LayerPredictions]:
        true = self.posts.label_ids("held_out")
        found = [
            LayerPredictions(
                layer,
                self.posts.labels,
                sets[layer],
                true,
                before=np.empty(len(true), dtype=np.int64),
                after=np.empty((len(sets[layer]), len(true)), dtype=np.int64),
                change=np.empty((len(sets[layer]), len(true)), dtype=np.float32),
            )
            for layer in saes
        ]
        rule = KnockoutSettings.model_validate(self.settings["knockout"])
        knockouts = [
            LayerKnockout(
                layer, sae, [each.features for each in sets[layer]], self._posts_of(sets[layer])
            )
            for layer, sae in saes.items()
        ]
        for part in knock_out(
            self.anatomy,
            self.token_ids,
            knockouts,
            Removal(rule.replace, rule.positions),
            batch_size=self.batch_size,
        ):
            before, some = part.before.numpy(), list(part.posts)
            rows = np.arange(len(some))
            for of_layer, logits in zip(found, part.after, strict=True):
                after = logits.numpy()
                of_layer.before[some] = before.argmax(axis=-1)
                of_layer.after[:, some] = after.argmax(axis=-1)
                own = true[some]
                of_layer.change[:, some] = after[:, rows, own] - before[rows, own]
            done(len(some) * len(saes))
        return found

    def _posts_of(self, sets: Sequence[FeatureSet]) -> NDArray[np.bool_]:
        """Which posts each set is removed from, bool `[set, post]`."""
        true = self.posts.label_ids("held_out")
        own = [
            np.full(len(true), True)
            if each.from_all_posts or each.label is None
            else true == self.posts.labels.index(each.label)
            for each in sets
        ]
        return np.stack(own)


def files_of_layers(arguments: argparse.Namespace) -> dict[int, LayerFiles]:
    """Return the files of each layer."""
    found = {}
    for layer in arguments.settings["layers"]:
        place = Path(f"layer_{layer}") / arguments.settings["sae"]
        found[layer] = LayerFiles(
            weights=arguments.saes / place / WEIGHTS_FILE,
            labels=arguments.features / place / "labels.parquet",
            features=arguments.features / place / "features.parquet",
        )
    return found


def sets_of_layer(
    layer: int,
    manifest: CheckpointManifest,
    files: LayerFiles,
    posts: Posts,
    settings: Mapping[str, Any],
) -> list[FeatureSet]:
    """Choose what is removed after one block.

    StudyError where the autoencoder is of another classifier or layer, or the features of another
    autoencoder.
    """
    check_origin(files.weights, manifest.model, manifest.checkpoint, layer)
    n_latents = int(read_config(files.weights)["d_sae"])
    for path in (files.labels, files.features):
        if read_provenance(path).inputs.get("sae") != file_digest(files.weights):
            raise StudyError(
                f"{path}: does not describe {files.weights}; remake it with "
                "`snakemake --forcerun collect_label_features`"
            )
    tops = top_features_by_label(
        read_table(files.labels),
        posts.labels,
        pooling=settings["pooling"],
        top=settings["top"],
        n_latents=n_latents,
        path=files.labels,
    )
    if featureless := [label for label, top in tops.items() if not len(top)]:
        print(
            f"layer {layer}: no feature fires more for {', '.join(featureless)} than for other "
            "labels, so nothing is removed there"
        )
    frequencies = firing_frequencies(
        read_table(files.features), n_latents=n_latents, path=files.features
    )
    return knockout_sets(
        tops,
        frequencies,
        draws=settings["knockout"]["draws"],
        seed=settings["seed"],
        layer=layer,
    )


if __name__ == "__main__":
    run_program(main)
