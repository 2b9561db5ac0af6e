"""Pretrain a model on generated text or on the user's own, and save checkpoints on the way.

Training begins with random weights, or goes on from the checkpoint that `--start` describes. Beside
the manifest stands one folder per saved step, `step_000512/`, in the transformers format with the
tokenizer. An interrupted run goes on where it last kept its state under `--resume-dir`.
"""

from argparse import Namespace
from pathlib import Path

from glossogenesis.corpora.lexicon import read_lexicon
from glossogenesis.exceptions import StudyError
from glossogenesis.models.device import resolve_device
from glossogenesis.models.manifest import CheckpointManifest
from glossogenesis.pretraining.text import TextSource, demo_source, file_source, posts_source
from glossogenesis.pretraining.training import RunFiles, checkpoint_start, pretrain
from glossogenesis.study.pretrain import FileText, PostsText, PretrainSettings
from glossogenesis.workflow.program import program_arguments, provenance_of, run_program


def main() -> None:
    """Train the model and write its manifest, checkpoints and log."""
    arguments = program_arguments(
        __doc__,
        lexicon={"nargs": "?", "default": None, "help": "words that demo text is made of"},
        start={"nargs": "?", "default": None, "help": "manifest of the checkpoint to start from"},
        resume_dir={"help": "folder for the state of an unfinished run"},
        seconds_between_states={"type": float, "default": 30.0},
        device={"type": str, "default": "cpu", "help": "auto, cpu or cuda"},
        output={"help": "manifest.json; checkpoints are written beside it"},
        training={"help": "table of loss and rate by step"},
    )
    settings = PretrainSettings.model_validate(arguments.settings["training"])
    if (settings.start is None) != (arguments.start is None):
        raise StudyError("`start` and --start belong together; give both or neither")
    source, inputs = text_of(settings, arguments)
    device = resolve_device(arguments.device)
    start = None
    if arguments.start is not None:
        inputs["start"] = arguments.start
        manifest = CheckpointManifest.read(arguments.start)
        start = checkpoint_start(manifest, settings, device=device)
    pretrain(
        settings,
        source,
        RunFiles(arguments.output, arguments.training, arguments.resume_dir),
        provenance_of(arguments, "pretraining", inputs),
        start=start,
        device=device,
        seconds_between_states=arguments.seconds_between_states,
    )


def text_of(settings: PretrainSettings, arguments: Namespace) -> tuple[TextSource, dict[str, Path]]:
    """Return the text to train on, and the files that it is made from by name."""
    written = arguments.settings
    text = settings.text
    shares = {
        code: {int(phase): share for phase, share in by_phase.items()}
        for code, by_phase in written["shares"].items()
    }
    inputs = {path: Path(path) for path in text.paths}
    if isinstance(text, FileText):
        return file_source(text, shares, sorted(settings.steps)), inputs
    if isinstance(text, PostsText):
        return posts_source(text), inputs
    lexicon = read_lexicon(arguments.lexicon, **written["lexicon"])
    source = demo_source(text, lexicon.concepts, written["endonyms"], shares)
    return source, {"lexicon": arguments.lexicon}


if __name__ == "__main__":
    run_program(main)
