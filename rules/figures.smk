"""
This part of the workflow draws the figures.

REQUIRED INPUTS:
    the tables
OUTPUTS:
    <results>/figures/{model}/{figure}.{svg,pdf,csv}     the data behind a figure beside it

STEPS:
    plot_unpatched_accuracy   accuracy without patching over checkpoints, by output language
    plot_patched_accuracy     accuracy of patched settings over checkpoints, by target pair
    plot_start_layers         accuracy over the start layer, by checkpoint
    plot_outcomes             what happened instead when a translation failed, over checkpoints
"""

FIGURES = ["unpatched_accuracy", "patched_accuracy", "start_layers", "outcomes"]
