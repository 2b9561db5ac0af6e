"""Checks of a whole study before anything expensive starts.

They read the lexicon and look at local folders, without loading a model or reaching the network.
"""

from __future__ import annotations

from pathlib import Path

from glossogenesis.config.source_pairs import source_pairs
from glossogenesis.config.stage_settings import is_local, lexicon_settings
from glossogenesis.config.study import Study
from glossogenesis.corpora.lexicon import Lexicon, read_lexicon
from glossogenesis.errors import StudyError

UNSAFE_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt")


def check(study: Study) -> None:
    """Check a study against its lexicon and files; StudyError names the mend."""
    lexicon = read_lexicon(study.lexicon_path, **lexicon_settings(study))
    _check_text_files(study)
    for row in study.sheet:
        if row.pretrained_by is None and is_local(row.source):
            _check_folder(study, Path(study.path(row.source)) / (row.subfolder or ""), row.checkpoint)
    if study.settings.concepts is not None and study.settings.concepts.enabled:
        source_pairs(study)
        _check_concepts(study, lexicon)


def _check_text_files(study: Study) -> None:
    """Every text file of a pretraining exists."""
    for name, pretraining in study.settings.pretrain.items():
        for written in pretraining.text.paths:
            if not Path(study.path(written)).is_file():
                raise StudyError(
                    f"{study.path(written)}: no such text file; correct `pretrain.{name}.text` in "
                    f"{study.file}"
                )


def _check_folder(study: Study, folder: Path, checkpoint: str) -> None:
    """A local checkpoint is a folder with safetensors weights."""
    sheet = study.path(study.settings.checkpoints)
    if not folder.is_dir():
        raise StudyError(
            f"{folder}: no such folder, but {sheet} names it for checkpoint {checkpoint!r}; correct "
            "the column `source` or put the checkpoint there"
        )
    if any(folder.glob("*.safetensors")):
        return
    unsafe = [path.name for path in sorted(folder.iterdir()) if path.suffix in UNSAFE_WEIGHTS]
    if unsafe:
        raise StudyError(
            f"{folder / unsafe[0]}: pickled weights can run code when they are opened and are not "
            "read; convert the checkpoint to safetensors"
        )
    raise StudyError(f"{folder}: holds no *.safetensors weights; put the checkpoint's files there")


def _check_concepts(study: Study, lexicon: Lexicon) -> None:
    """The lexicon is large enough, and start layers lie within models of known depth."""
    concepts = study.concepts
    needed = 2 + 2 * concepts.few_shot
    if len(lexicon.concepts) < needed:
        raise StudyError(
            f"{study.lexicon_path}: {len(lexicon.concepts)} usable concepts, but an item needs "
            f"{needed} (two and {concepts.few_shot} demonstrations on each side); use a larger "
            "lexicon, raise `lexicon.limit` or lower `concepts.few_shot`"
        )
    most = len(lexicon.concepts) * (len(lexicon.concepts) - 1)
    if concepts.items > most:
        raise StudyError(
            f"{study.file}: `concepts.items` is {concepts.items}, but {len(lexicon.concepts)} "
            f"concepts make only {most} ordered pairs; lower it or use a larger lexicon"
        )
    for row in study.sheet:
        if row.pretrained_by is not None:
            _check_layers(study, study.settings.pretrain[row.pretrained_by].model.layers)


def _check_layers(study: Study, layers: int) -> None:
    concepts = study.concepts
    for key in ("start_layers", "generate_at", "figure_start_layer"):
        written = getattr(concepts, key)
        asked = () if isinstance(written, str) else written
        for layer in (asked,) if isinstance(asked, int) else asked:
            if layer >= layers:
                raise StudyError(
                    f"{study.file}: `concepts.{key}` names layer {layer}, but the model's last is "
                    f"{layers - 1}; layers are counted from 0"
                )
