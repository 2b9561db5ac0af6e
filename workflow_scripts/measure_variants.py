"""Measure how far different spellings of a concept share features, at every layer.

Each spelling is read in a sentence of its own and, where the study gives one, in a carrier sentence
that is the same for all.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from glossogenesis.corpora.contexts import CorpusTokenizer
from glossogenesis.corpora.posts import Spelling, read_spellings
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.loading import LoadedModel, load_model, load_tokenizer
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.models.residuals import check_layers
from glossogenesis.progress import progress
from glossogenesis.robustness.spellings import (
    SURVIVAL_SCHEMA,
    SpellingStates,
    locate_spellings,
    states_of_spellings,
    strongest_features,
    survival_rows,
)
from glossogenesis.sae.files import check_origin, read_sae, weights_of_layers
from glossogenesis.storage.tables import write_table
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program

PLACE = "{variant}"


def main() -> None:
    """Write the survival of every ordered pair of spellings in one kind of autoencoder."""
    arguments = program_arguments(
        __doc__,
        classifier={"help": "manifest of the classifier"},
        saes={"help": "folder that holds layer_{layer}/{sae}/"},
        variants={"help": "table of spellings"},
        batch_size={"type": int, "help": "sentences in one forward pass"},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        output={"help": "table, Parquet"},
    )
    settings = arguments.settings
    weights = weights_of_layers(arguments.saes, settings["layers"], settings["sae"])
    manifest = CheckpointManifest.read(arguments.classifier)
    for layer, path in weights.items():
        check_origin(path, manifest.model, manifest.checkpoint, layer)
    spellings = read_spellings(arguments.variants)
    loaded = load_model(
        manifest.location,
        dtype=settings["dtype"],
        device=arguments.device,
        head="classifier",
    )
    states = states_by_arm(loaded, manifest, spellings, settings, batch_size=arguments.batch_size)
    table, l0 = survival_table(weights, states, spellings, settings, loaded.anatomy)
    provenance = provenance_of(
        arguments,
        "spelling_variants",
        {"classifier": arguments.classifier, "variants": arguments.variants}
        | {f"layer_{layer}": path for layer, path in weights.items()},
        **manifest.origin,
        seed=settings["seed"],
        dtype=settings["dtype"],
        device=loaded.anatomy.device.type,
        facts={
            "sae": settings["sae"],
            "spellings": len(spellings),
            "concepts": table["concept"].n_unique(),
            "activation": f"maximum over the {settings['variants']['span']}'s tokens, in the "
            "autoencoder's space",
            "l0": l0,
        },
    )
    write_table(arguments.output, table, provenance)
    print(f"{len(spellings)} spellings of {provenance.facts['concepts']} concepts; L0: {l0}")


def states_by_arm(
    loaded: LoadedModel,
    manifest: CheckpointManifest,
    spellings: Sequence[Spelling],
    settings: dict[str, Any],
    *,
    batch_size: int,
) -> dict[str, SpellingStates]:
    """Return the residual streams at the tokens of each spelling, by arm."""
    described_as = f"classifier of {manifest.model} {manifest.checkpoint}"
    check_layers(loaded.anatomy, settings["layers"], described_as)
    tokenizer = CorpusTokenizer.of(
        load_tokenizer(manifest.tokenizer_location),
        manifest.tokenizer_digest,
        manifest.tokenizer_folder,
    )
    texts = {"sentence": [spelling.sentence for spelling in spellings]}
    carrier = settings["variants"]["carrier"]
    if carrier is not None:
        texts["carrier"] = [carrier.replace(PLACE, spelling.variant) for spelling in spellings]
    return {
        arm: states_of_spellings(
            loaded.anatomy,
            locate_spellings(
                spellings,
                of_arm,
                tokenizer,
                add_special_tokens=settings["add_special_tokens"],
                span=settings["variants"]["span"],
            ),
            settings["layers"],
            batch_size=batch_size,
            described_as=described_as,
        )
        for arm, of_arm in texts.items()
    }


def survival_table(
    weights: Mapping[int, Path],
    states: Mapping[str, SpellingStates],
    spellings: Sequence[Spelling],
    settings: dict[str, Any],
    anatomy: Anatomy,
) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
    """Return rows of `SURVIVAL_SCHEMA`, and the mean features on a token by arm and layer."""
    ks: list[int] = settings["variants"]["ks"]
    rows: list[dict[str, Any]] = []
    l0: dict[str, dict[str, float]] = {arm: {} for arm in states}
    with progress(total=len(weights) * len(states), label="spellings", unit="layer") as bar:
        for layer, path in weights.items():
            sae = read_sae(path, d_model=anatomy.d_model).to(anatomy.device)
            for arm, of_arm in states.items():
                found = strongest_features(
                    sae, of_arm.of_layer[layer], of_arm.spellings, of_arm.number, k=max(ks)
                )
                l0[arm][str(layer)] = round(found.l0, 2)
                rows += [
                    {"layer": layer, "arm": arm} | row
                    for row in survival_rows(spellings, found, ks)
                ]
                bar.update()
    return pl.DataFrame(rows, schema=SURVIVAL_SCHEMA), l0


if __name__ == "__main__":
    run_program(main)
