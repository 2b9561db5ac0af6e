"""Find the circuit of a classifier at each threshold, and test it by ablation."""

from dataclasses import replace

from glossogenesis.progress import progress
from glossogenesis.robustness.ablation import AblationRules, ablation_table, check_in_float32
from glossogenesis.robustness.circuit import circuit_table, circuits_of
from glossogenesis.robustness.tokenised_posts import labelled_posts, open_classifier
from glossogenesis.statistics.intervals import Bootstrap
from glossogenesis.storage.tables import read_table, write_table
from glossogenesis.study.robustness import CircuitSettings
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the circuits of one classifier and what ablating them does."""
    arguments = program_arguments(
        __doc__,
        classifier={"help": "manifest of the classifier"},
        corpus={"help": "manifest of the tokenised posts"},
        posts={"help": "posts.parquet"},
        effects={"help": "effects of components"},
        batch_size={"type": int},
        device={"type": str},
        output={"help": "table of ablations"},
        circuit={"help": "table of circuits"},
    )
    settings = arguments.settings
    rule = CircuitSettings.model_validate(settings["circuit"])
    opened = open_classifier(
        arguments.classifier,
        arguments.corpus,
        arguments.posts,
        dtype=settings["dtype"],
        device=arguments.device,
    )
    train = labelled_posts(opened.corpus, opened.posts, "train")
    circuit = circuit_table(
        read_table(arguments.effects),
        rule.thresholds,
        Bootstrap(resamples=settings["resamples"], seed=settings["seed"]),
    )
    rules = AblationRules(
        methods=rule.ablations,
        positions=rule.positions,
        reference_posts=rule.reference_posts,
        outputs=settings["outputs"],
        seed=settings["seed"],
        batch_size=arguments.batch_size,
    )
    exact = check_in_float32(opened.anatomy, opened.held_out, rules)
    with progress(total=len(opened.held_out), label="ablate circuits", unit="post") as bar:
        ablations = ablation_table(
            opened.anatomy,
            circuits_of(
                circuit, rule.thresholds, random_draws=rule.random_draws, seed=settings["seed"]
            ),
            train.token_ids,
            opened.held_out,
            rules,
            bar.update,
        )
    provenance = provenance_of(
        arguments,
        "circuit",
        {name: getattr(arguments, name) for name in ("classifier", "corpus", "posts", "effects")},
        **opened.manifest.origin,
        seed=settings["seed"],
        dtype=settings["dtype"],
        device=opened.anatomy.device.type,
    )
    write_table(arguments.circuit, circuit, provenance)
    described = replace(provenance, kind="circuit_ablations", facts=exact.facts)
    write_table(arguments.output, ablations, described)


if __name__ == "__main__":
    run_program(main)
