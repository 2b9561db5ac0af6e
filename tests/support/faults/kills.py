"""Kills over the whole study: every stage, each victim, at moments spread over a program's life."""

import itertools

from support.faults.moments import Event, Kill, Victim

VICTIMS: tuple[Victim, ...] = ("step", "driver", "group")

Moment = tuple[Event, str, int]

MOMENTS: dict[str, list[Moment]] = {
    "pretrain_model": [
        ("open", "state.safetensors", 3),
        ("os.rename", "step_000012/model.safetensors", 1),
        ("os.rename", "state.safetensors", 17),
        ("os.rename", "training.parquet", 1),
        ("exit", "", 1),
    ],
    "fetch_checkpoint": [("os.rename", "manifest.json", 1), ("start", "", 1)],
    "prepare_corpus": [
        ("os.rename", "train_", 1),
        ("open", "vocabulary.parquet", 1),
        ("exit", "", 1),
    ],
    "write_prompts": [("os.rename", ".parquet", 1)],
    "extract_states": [("open", "states.safetensors", 1), ("exit", "", 1)],
    "patch_translations": [
        ("os.rename", "patching.parquet", 1),
        ("start", "", 1),
        ("exit", "", 1),
    ],
    "extract_embeddings": [("os.rename", "tokens.safetensors", 1)],
    "extract_activations": [
        ("os.rename", "train_00001", 1),
        ("os.rename", "unfinished.json", 3),
        ("open", "layer_1/.manifest.json", 1),
        ("exit", "", 1),
    ],
    "train_saes": [
        ("open", "state.safetensors", 4),
        ("os.rename", "state.safetensors", 9),
        ("os.rename", "cfg.json", 1),
        ("os.rename", "sae_weights.safetensors", 1),
    ],
    "measure_quality": [("os.rename", "quality.json", 1)],
    "measure_recovery": [("os.rename", ".parquet", 1), ("start", "", 1)],
    "collect_features": [
        ("open", "examples.parquet", 1),
        ("os.rename", "statistics.parquet", 1),
        ("exit", "", 1),
    ],
    "tabulate_concepts": [("os.rename", "concepts_outcomes.csv", 1), ("start", "", 1)],
    "tabulate_features": [("os.rename", "features_stages.parquet", 1), ("exit", "", 1)],
    "plot_figures": [
        ("os.rename", "outcomes.svg", 1),
        ("os.rename", "sae_quality.pdf", 1),
        ("exit", "", 1),
    ],
    "snakemake": [
        ("open", ".snakemake/metadata", 5),
        ("open", ".snakemake/metadata", 9),
    ],
}
"""By program: event, what it concerns, and which of those events it is."""


def rounds(number: int, seed: int = 0) -> list[list[Kill]]:
    """Divide kills at all moments among so many runs of the study.

    Victims take turns, beginning elsewhere with another seed; a driver can only kill itself.
    """
    divided: list[list[Kill]] = [[] for _ in range(number)]
    turns = itertools.cycle(VICTIMS[seed % 3 :] + VICTIMS[: seed % 3])
    runs = itertools.cycle(range(number))
    for program, moments in MOMENTS.items():
        for event, path, count in moments:
            victim = "step" if program == "snakemake" else next(turns)
            divided[next(runs)].append(Kill(victim, program, event, path, count))
    return divided
