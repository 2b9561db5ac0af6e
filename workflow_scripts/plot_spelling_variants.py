"""Plot how far features outlive another spelling of a concept, with chance."""

from __future__ import annotations

from glossogenesis.figures.inputs import robustness_inputs
from glossogenesis.figures.style import save_figure
from glossogenesis.figures.variant_figure import plot_spelling_variants, variant_frame
from glossogenesis.program import run_program


def main() -> None:
    """Read the spelling variants of all models, draw them, and save figure and numbers."""
    given = robustness_inputs(str(__doc__), "variants", "features", choice="sae")
    variants, features = given.tables
    data = variant_frame(variants, features, given.models, given.settings["sae"])
    save_figure(plot_spelling_variants(data, given.models), given.stem, data)


if __name__ == "__main__":
    run_program(main)
