"""Pretrain a model on generated text or on the user's own, and save checkpoints on the way.

Beside the manifest stands a folder a saved step, `step_000512/`, in the transformers format with
the tokenizer. An interrupted run goes on where it last kept its state under `--resume-dir`.
"""

from pathlib import Path

import torch

from glossogenesis.config.pretrain import FileText, PretrainSettings
from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.models.device import resolve_device
from glossogenesis.models.pretraining import RunFiles, pretrain
from glossogenesis.models.training_text import TextSource, demo_source, file_source
from glossogenesis.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Train the model and write its manifest, checkpoints and log."""
    arguments = program_arguments(
        __doc__,
        lexicon={"nargs": "?", "default": None, "help": "words that demo text is made of"},
        resume_dir={"help": "folder for the state of an unfinished run"},
        threads={"type": int, "default": 1},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        output={"help": "manifest.json; checkpoints are written beside it"},
        training={"help": "table of loss and rate by step"},
    )
    torch.set_num_threads(arguments.threads)
    written = arguments.settings
    settings = PretrainSettings.model_validate(written["training"])
    shares = {
        code: {int(phase): share for phase, share in by_phase.items()}
        for code, by_phase in written["shares"].items()
    }
    source: TextSource
    if isinstance(settings.text, FileText):
        inputs = {path: Path(path) for path in settings.text.paths}
        source = file_source(settings.text, shares, sorted(settings.steps))
    else:
        inputs = {"lexicon": arguments.lexicon}
        lexicon = read_lexicon(arguments.lexicon, **written["lexicon"])
        source = demo_source(settings.text, lexicon.concepts, written["endonyms"], shares)
    pretrain(
        settings,
        source,
        RunFiles(arguments.output, arguments.training, arguments.resume_dir),
        provenance_of(arguments, "pretraining", inputs),
        device=resolve_device(arguments.device),
    )


if __name__ == "__main__":
    run_program(main)
