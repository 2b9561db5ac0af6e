"""Checks of a whole study before anything expensive starts.

`check` looks for mistakes in the study itself and runs whenever the workflow is planned; a study
may be planned before its lexicon and checkpoints are in place. `check_files` looks at those too and
runs before the first job. Neither loads a model or reaches the network.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from glossogenesis.checkpoint_checks import (
    check_small_files,
    check_start_layers,
    local_checkpoints,
)
from glossogenesis.config.feature_settings import parallel_files
from glossogenesis.config.source_pairs import source_pairs
from glossogenesis.corpora.documents import texts_in
from glossogenesis.corpora.lexicon import Lexicon, read_lexicon
from glossogenesis.errors import StudyError
from glossogenesis.models.training_schedule import phase_of
from glossogenesis.models.weight_files import check_weights
from glossogenesis.study.inputs import CorpusFiles
from glossogenesis.study.pretrain import FileText
from glossogenesis.study.sheet import Checkpoint
from glossogenesis.study.study import Study
from glossogenesis.workflow import stages_features, stages_robustness
from glossogenesis.workflow.stages_concepts import lexicon_settings


def check(study: Study) -> None:
    """Check a study against its lexicon, where that is in place; StudyError names the mend."""
    _check_text_files(study)
    _check_corpus_files(study)
    _check_pretrained_facts(study)
    if study.has_concepts:
        source_pairs(study)
        for name in dict.fromkeys(row.pretrained_by for row in study.rows_of("concepts")):
            size = None if name is None else study.size_of(name)
            if name is not None and size is not None:
                check_start_layers(study, size.layers, name)
    path = study.lexicon_path
    if path is not None and Path(path).exists():
        lexicon = read_lexicon(path, **lexicon_settings(study))
        if study.has_concepts:
            _check_concepts(study, lexicon)


def absent(study: Study, results: Path) -> str | None:
    """Return a line on the first file that the study names and its user has yet to put in place.

    Checkpoints whose manifest stands in the folder `results` are not asked for.
    """
    lines = []
    path = study.lexicon_path
    if path is not None and not Path(path).exists():
        lines.append(
            f"{path}: no such lexicon; put it there or correct `lexicon.path` in {study.file}"
        )
    for key, path in _robustness_files(study):
        if not Path(path).is_file():
            lines.append(
                f"{path}: no such file; put it there or correct `robustness.{key}` in {study.file}"
            )
    for pair, path in parallel_files(study) if study.has_features else ():
        if not Path(path).is_file():
            lines.append(
                f"{path}: no such file; put it there, or correct or remove "
                f"`features.injection.translation.files.{pair}` in {study.file}"
            )
    sheet = study.path(study.settings.checkpoints)
    for found in local_checkpoints(study, results):
        if not found.folder.is_dir():
            lines.append(
                f"{found.folder}: no such folder, but {sheet} names it for checkpoint "
                f"{found.row.checkpoint!r}; put the checkpoint there or correct `source`"
            )
    more = f" ({len(lines) - 1} more not in place)" if len(lines) > 1 else ""
    return lines[0] + more if lines else None


def check_files(study: Study, results: Path) -> None:
    """Check that a study's files are in place and whole; StudyError names the first that is not."""
    if missing := absent(study, results):
        raise StudyError(missing)
    _check_disk(study, results)
    check_small_files(study, results)
    for found in local_checkpoints(study, results):
        check_weights(found.folder)


def _robustness_files(study: Study) -> Iterator[tuple[str, str]]:
    """Yield every file that the robustness study reads, with the key that names it."""
    if study.has_robustness:
        for written in study.robustness.posts.text.paths:
            yield "posts.text", study.path(written)
        if study.robustness.variants is not None:
            yield "variants.file", study.path(study.robustness.variants.file)


def _check_pretrained_facts(study: Study) -> None:
    """The sheet's phases and tokens are those of the pretraining that saves the step."""
    sheet = study.path(study.settings.checkpoints)
    for row in study.sheet:
        if row.pretrained_by is None:
            continue
        pretraining = study.settings.pretrain[row.pretrained_by]
        facts = {
            "phase": (row.phase, phase_of(pretraining, row.step)),
            "tokens": (row.tokens, row.step * pretraining.tokens_per_step),
        }
        for column, (written, actual) in facts.items():
            if written is not None and written != actual:
                raise StudyError(
                    f"{sheet}: checkpoint {row.checkpoint!r} has {column} {written}, but its "
                    f"pretraining makes {actual} of step {row.step}; correct the cell"
                )


def _check_text_files(study: Study) -> None:
    """Every text file of a pretraining exists and begins with a text."""
    for name, pretraining in study.settings.pretrain.items():
        for written in pretraining.text.paths:
            if not Path(study.path(written)).is_file():
                raise StudyError(
                    f"{study.path(written)}: no such text file; correct `pretrain.{name}.text` in "
                    f"{study.file}"
                )
            if isinstance(pretraining.text, FileText):
                next(texts_in(study.path(written)), None)


def _check_corpus_files(study: Study) -> None:
    """Every text file of the features study exists and begins with a text."""
    if not study.has_features:
        return
    name = study.features.corpus
    text = study.settings.corpora[name].text
    if not isinstance(text, CorpusFiles):
        return
    for written in (path for paths in text.files.values() for path in paths):
        if not Path(study.path(written)).is_file():
            raise StudyError(
                f"{study.path(written)}: no such text file; correct `corpora.{name}.text.files` in "
                f"{study.file}"
            )
        # The first text tells a wrong format, key or encoding.
        next(texts_in(study.path(written), text_column=text.text_column), None)


def _check_disk(study: Study, results: Path) -> None:
    """The activation caches that are still to be written fit the disk."""
    needed = missing = 0
    mends = []
    if study.has_features:
        corpus = study.features.corpus
        waiting = Counter(
            row.model
            for row in study.rows_of("features")
            for layer in study.layers_of(row.model)[:1]
            if not _cache_manifest(results, row, corpus, layer).exists()
        )
        needed += stages_features.cache_bytes(study, waiting)
        missing += waiting.total()
        mends.append(
            "set `features.activations.mode: stream`, which keeps only held-out activations, lower "
            f"`corpora.{corpus}.train_tokens` or `held_out_tokens`"
        )
    if study.has_robustness:
        for run in study.robustness.runs:
            folder = results / "post_activations" / run.folder
            if not (folder / f"layer_{study.layers_of(run.model)[0]}" / "manifest.json").exists():
                needed += stages_robustness.post_activations_cost(study, run.model).disk_bytes
                missing += 1
        mends.append("set `robustness.activations.positions: last`")
    existing = next(path for path in (results, *results.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise StudyError(
            f"{results}: the activations of {missing} checkpoints will take "
            f"{needed / 1e9:,.1f} GB, but the disk has {free / 1e9:,.1f} GB free; "
            f"{', '.join(mends)}, choose fewer `layers`, run part of the study and `glossogenesis "
            "purge` between, or set `pathvars.results` to a larger disk"
        )


def _cache_manifest(results: Path, row: Checkpoint, corpus: str, layer: int) -> Path:
    folder = results / "activations" / row.model / row.checkpoint / corpus
    return folder / f"layer_{layer}" / "manifest.json"


def _check_concepts(study: Study, lexicon: Lexicon) -> None:
    """The lexicon is large enough for the items that are asked for."""
    concepts = study.concepts
    needed = 2 + 2 * concepts.few_shot
    count = len(lexicon.concepts)
    if count < needed:
        raise StudyError(
            f"{study.lexicon_path}: {count} usable concepts, but an item needs {needed} (two and "
            f"{concepts.few_shot} demonstrations on each side); use a larger lexicon, raise "
            "`lexicon.limit` or lower `concepts.few_shot`"
        )
    most = count * (count - 1)
    if concepts.items > most:
        raise StudyError(
            f"{study.file}: `concepts.items` is {concepts.items}, but {count} concepts make only "
            f"{most} ordered pairs; lower it or use a larger lexicon"
        )
