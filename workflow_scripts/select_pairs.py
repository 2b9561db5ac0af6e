"""Draw the pairs of posts that one model's components are patched between.

The set `own` holds pairs that qualify for the model, `common` those that qualify for every model of
the study: the same in each model's file but for the cosine.
"""

import polars as pl

from glossogenesis.robustness.pairs import PAIRS_SCHEMA, pair_table, read_candidates, select_pairs
from glossogenesis.storage.tables import read_provenance, write_table
from glossogenesis.study.robustness import PairSettings
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Write the pairs of one model."""
    arguments = program_arguments(
        __doc__,
        predictions={"nargs": "+", "help": "predictions of every model, in the order of `models`"},
        states={"nargs": "+", "help": "final states of every model, in the same order"},
        output={},
    )
    settings = arguments.settings
    rule = PairSettings.model_validate(settings["pairs"])
    models = {
        model: read_candidates(predictions, states, rule.states)
        for model, predictions, states in zip(
            settings["models"], arguments.predictions, arguments.states, strict=True
        )
    }
    own = models[settings["model"]]
    tables = [pl.DataFrame(schema=PAIRS_SCHEMA)]
    facts = {}
    for name in rule.sets:
        drawn = select_pairs(
            [own] if name == "own" else list(models.values()),
            name,
            number=rule.number,
            minimum_cosine=rule.minimum_cosine,
            seed=settings["seed"],
            may_be_empty=name == "common" and "own" in rule.sets,
        )
        tables.append(pair_table(name, drawn, own))
        facts[name] = {"pairs": len(drawn.clean), "qualifying": drawn.qualifying}
        print(
            f"{name}: {len(drawn.clean)} of {drawn.qualifying} pairs that qualify; highest cosine "
            f"{drawn.highest_cosine:.4f}"
        )
    for model, posts in models.items():
        if not posts.beats_chance:
            print(f"{model}: its classifier is at chance; sets that need it are empty")
    inputs = {
        f"{kind}/{model}": path
        for kind in ("predictions", "states")
        for model, path in zip(settings["models"], getattr(arguments, kind), strict=True)
    }
    origin = read_provenance(own.path)
    provenance = provenance_of(
        arguments,
        "pairs",
        inputs,
        **origin.origin,
        seed=settings["seed"],
        facts=facts,
    )
    write_table(arguments.output, pl.concat(tables), provenance)


if __name__ == "__main__":
    run_program(main)
