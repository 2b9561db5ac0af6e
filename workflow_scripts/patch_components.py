"""Patch every attention and MLP output of a classifier's last position, pair after pair.

Pairs that are in several sets run once.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl

from glossogenesis.corpora.tokenised import TokenisedCorpus, post_token_ids
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.loading import load_model
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.progress import progress
from glossogenesis.robustness.components.effects import (
    EFFECTS_SCHEMA,
    ComponentEffects,
    PatchedPairs,
    PatchingRule,
    check_component_identities,
    check_components_in_float32,
    component_effects,
    distinct_pairs,
    effects_table,
    n_runs,
    pairs_of_posts,
)
from glossogenesis.storage.tables import read_table, write_table
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the effects of one classifier's components."""
    arguments = program_arguments(
        __doc__,
        classifier={"help": "manifest of the classifier"},
        corpus={"help": "manifest of the tokenised posts"},
        pairs={"help": "pairs of posts"},
        batch_size={"type": int, "help": "posts in one forward pass"},
        device={"type": str, "help": "auto, cpu or cuda"},
        output={"help": "table of effects, Parquet"},
    )
    manifest = CheckpointManifest.read(arguments.classifier)
    corpus = TokenisedCorpus.read(arguments.corpus)
    manifest.check_tokenizer(corpus.tokenizer_digest, arguments.corpus)
    loaded = load_model(
        manifest.location,
        dtype=arguments.settings["dtype"],
        device=arguments.device,
        head="classifier",
    )
    pairs = read_table(arguments.pairs)
    distinct = distinct_pairs(pairs)
    posts = post_token_ids(corpus, "held_out")
    config: Any = loaded.model.config
    table = pl.DataFrame(schema=EFFECTS_SCHEMA)
    facts: dict[str, Any] = {}
    if pairs.height:
        effects, facts = checked_effects(
            loaded.anatomy,
            posts,
            pairs_of_posts(distinct, config.label2id, len(posts), arguments.pairs),
            PatchingRule(**arguments.settings["components"], batch_size=arguments.batch_size),
            f"{manifest.model} {manifest.checkpoint}",
        )
        table = effects_table(pairs, distinct, effects)
    provenance = provenance_of(
        arguments,
        "component_effects",
        {name: getattr(arguments, name) for name in ("classifier", "corpus", "pairs")},
        **manifest.origin,
        dtype=arguments.settings["dtype"],
        device=loaded.anatomy.device.type,
        facts=facts,
    )
    write_table(arguments.output, table, provenance)


def checked_effects(
    anatomy: Anatomy,
    token_ids: Sequence[Sequence[int]],
    pairs: PatchedPairs,
    rule: PatchingRule,
    described_as: str,
) -> tuple[ComponentEffects, dict[str, Any]]:
    """Return the effects of all pairs, once identities hold on some, and what was found there."""
    exact = check_components_in_float32(anatomy, token_ids, pairs, rule, described_as)
    check_component_identities(anatomy, token_ids, pairs, rule, described_as)
    with progress(total=n_runs(anatomy, pairs), label="patch components", unit="run") as bar:
        effects = component_effects(anatomy, token_ids, pairs, rule, bar.update)
    undefined = int(effects.undefined.sum())
    print(f"{len(pairs)} distinct pairs; the effects of {undefined} are undefined and count as 0")
    return effects, exact.facts


if __name__ == "__main__":
    run_program(main)
