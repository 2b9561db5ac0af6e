"""Checks of a whole study before anything expensive starts, and what is suspicious in it.

`check` looks for mistakes in the study itself and runs whenever the workflow is planned; a study
may be planned before its lexicon and checkpoints are in place. `check_files` looks at those too and
runs before the first job. Neither loads a model or reaches the network.

Their configurations and tokenizers are read, no weights: architecture, layers, positions and
vocabulary are known from them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.corpora.documents import texts_in
from glossogenesis.corpora.lexicon import Lexicon, read_lexicon
from glossogenesis.exceptions import StudyError
from glossogenesis.models.checkpoints import holds_tokenizer, tokenizer_digest
from glossogenesis.models.weight_files import (
    ModelLimits,
    check_supported,
    check_weights,
    read_config,
)
from glossogenesis.storage.provenance import LEFT_OUT
from glossogenesis.study.inputs import CorpusFiles
from glossogenesis.study.pretrain import FileText, phase_of
from glossogenesis.study.section import is_local
from glossogenesis.study.sheet import Checkpoint, same_steps
from glossogenesis.study.study import Study
from glossogenesis.workflow.jobs_concepts import endonyms, lexicon_settings, source_pairs
from glossogenesis.workflow.jobs_features import parallel_files
from glossogenesis.workflow.registry import CACHES, STAGES
from glossogenesis.workflow.stages import cost_of

READ_WHOLE = 1 << 26
"""Bytes up to which a weights file is compared whole."""

SAMPLES, SAMPLED = 256, 4096
"""Of a larger file, how many evenly spaced samples of how many bytes are compared."""

TABLES = ("concepts_accuracy", "features_languages", "features_tracking", "features_injection")
"""One of each program that leaves out what diverged."""


def check(study: Study) -> None:
    """Check a study against its lexicon, where that is in place; StudyError names the fix."""
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
    waiting = {
        (name, tuple((key, value) for key, value in setup.items() if key != "layer"))
        for name in CACHES
        for setup in STAGES[name].jobs_in(study)
        if not (results / STAGES[name].path().format_map(setup)).exists()
    }
    needed = sum(cost_of(STAGES[name], study, dict(job)).disk_bytes for name, job in waiting)
    existing = next(path for path in (results, *results.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        fixes = []
        if study.has_features:
            fixes.append(
                "set `features.activations.mode: stream`, which keeps only held-out activations, "
                f"lower `corpora.{study.features.corpus}.train_tokens` or `held_out_tokens`"
            )
        if study.has_robustness:
            fixes.append("set `robustness.activations.positions: last`")
        raise StudyError(
            f"{results}: the activations of {len(waiting)} checkpoints will take "
            f"{needed / 1e9:,.1f} GB, but the disk has {free / 1e9:,.1f} GB free; "
            f"{', '.join(fixes)}, choose fewer `layers`, run part of the study and `glossogenesis "
            "purge` between, or set `pathvars.results` to a larger disk"
        )


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


@dataclass(frozen=True)
class LocalCheckpoint:
    """A row of the sheet that is a folder of the user's."""

    row: Checkpoint
    folder: Path
    tokenizer_folder: Path | None
    """None where the checkpoint has no tokenizer of its own, or takes another's."""


def local_checkpoints(study: Study, results: Path) -> Iterator[LocalCheckpoint]:
    """Yield the rows that are folders of the user's, there or not, and not yet taken up."""
    sheet = study.path(study.settings.checkpoints)
    for row in study.sheet:
        if row.pretrained_by is not None or not is_local(row.source):
            continue
        if row.revision is not None:
            raise StudyError(
                f"{sheet}: checkpoint {row.checkpoint!r} is the folder {row.source!r} and has "
                f"revision {row.revision!r}; a folder has none, so empty the cell"
            )
        manifest = results / "checkpoints" / row.model / row.checkpoint / "manifest.json"
        if manifest.exists():
            continue
        root = Path(study.path(row.source))
        folder = root / (row.subfolder or "")
        own = next((place for place in (folder, root) if holds_tokenizer(place)), None)
        elsewhere = study.settings.models[row.model].tokenizer is not None
        yield LocalCheckpoint(row, folder, None if elsewhere else own)


def check_small_files(study: Study, results: Path) -> list[str]:
    """Check the configurations and tokenizers of checkpoints that are in place.

    Returns:
        A line for each thing that is suspicious and not wrong.

    Raises:
        StudyError: an architecture is not supported, a layer is beyond the last, prompts or
            contexts cannot be read, or checkpoints of one model have different tokenizers.
    """
    warnings: list[str] = []
    first: dict[str, tuple[str, str]] = {}
    looked_at: set[str] = set()
    for found in local_checkpoints(study, results):
        if not found.folder.is_dir():
            continue
        model, name = found.row.model, found.row.checkpoint
        config = read_config(found.folder)
        check_supported(config, found.folder / "config.json")
        limits = ModelLimits.of(config)
        _check_layers(study, found, limits)
        if found.tokenizer_folder is not None:
            digest = tokenizer_digest(found.tokenizer_folder)
            if first.setdefault(model, (digest, name))[0] != digest:
                raise StudyError(
                    f"{found.folder}: checkpoint {name!r} has another tokenizer than "
                    f"{first[model][1]!r} of model {model!r}; give it another model name in the "
                    f"sheet, or name one tokenizer for all under `models.{model}.tokenizer`"
                )
        # The texts are those of the model; the limits may be another checkpoint's.
        if model not in looked_at:
            looked_at.add(model)
            warnings += _long_prompts(study, found, limits)
            warnings += _long_contexts(study, model, limits, str(found.folder / "config.json"))
            warnings += _beyond_vocabulary(found, limits)
    for model in study.models:
        if size := study.trained_size_of(model):
            limits = ModelLimits("llama", size.positions, False, size.vocabulary, size.layers)
            training = study.checkpoints_of(model)[0].pretrained_by
            place = f"{study.file}: `pretrain.{training}.model.positions`"
            warnings += _long_contexts(study, model, limits, place)
    return warnings


def _check_layers(study: Study, found: LocalCheckpoint, limits: ModelLimits) -> None:
    """Layers that the study names are within the model."""
    model = found.row.model
    settings = study.settings.models[model]
    if limits.layers is None:
        return
    if study.settings.concepts is not None:
        check_start_layers(study, limits.layers, model)
    if settings.n_layers is not None and settings.n_layers != limits.layers:
        raise StudyError(
            f"{study.file}: `models.{model}.n_layers` is {settings.n_layers}, but "
            f"{found.folder / 'config.json'} has {limits.layers}; correct it"
        )
    if isinstance(settings.layers, tuple) and max(settings.layers) >= limits.layers:
        raise StudyError(
            f"{study.file}: `models.{model}.layers` names layer {max(settings.layers)}, but its "
            f"last is {limits.layers - 1}; layers are counted from 0"
        )


def check_start_layers(study: Study, layers: int, model: str) -> None:
    """Layers that the concepts section names lie within a model of known depth."""
    for key in ("start_layers", "generate_at", "figure_start_layer"):
        written = getattr(study.concepts, key)
        asked = () if isinstance(written, str) else written
        for layer in (asked,) if isinstance(asked, int) else asked:
            if layer >= layers:
                raise StudyError(
                    f"{study.file}: `concepts.{key}` names layer {layer}, but the last of model "
                    f"{model!r} is {layers - 1}; layers are counted from 0"
                )


def _long_contexts(
    study: Study, model: str, limits: ModelLimits, described_as: str
) -> Iterator[str]:
    """Yield where contexts of the model's corpus are longer than its positions."""
    if study.has_features and model in study.models_of("features"):
        corpus = study.features.corpus
        context = study.settings.corpora[corpus].context
        fix = f"lower `corpora.{corpus}.context`"
        if line := limits.longer(context, "contexts", described_as, fix):
            yield line


def _long_prompts(study: Study, found: LocalCheckpoint, limits: ModelLimits) -> Iterator[str]:
    """Yield where even prompts of the shortest words are longer than the model's positions."""
    model, path = found.row.model, study.lexicon_path
    if not study.has_concepts or model not in study.models_of("concepts"):
        return
    count = _token_counter(found, study.settings.models[model].add_special_tokens)
    if count is None or path is None or not Path(path).exists():
        return
    lexicon = read_lexicon(path, **lexicon_settings(study))
    tokens = shortest_prompt(study, lexicon, count) + study.concepts.max_new_tokens
    place = str(found.folder / "config.json")
    fix = "lower `concepts.few_shot`"
    if line := limits.longer(tokens, "prompts with their answers", place, fix):
        yield line


def shortest_prompt(study: Study, lexicon: Lexicon, count: Callable[[str], int]) -> int:
    """Return the tokens of the longest pair's prompt of the shortest words: others have more."""
    from glossogenesis.concepts.prompts import demonstration, query_end, query_start

    names = endonyms(study)
    shortest = []
    for pair in study.concepts.measured_pairs:
        by_length = sorted(
            lexicon.concepts, key=lambda concept: count(demonstration(concept, pair, names))
        )
        query, *shots = by_length[: 1 + study.concepts.few_shot]
        shortest.append(count(query_start(query, pair, shots, names) + query_end(pair, names)))
    return max(shortest)


def _token_counter(found: LocalCheckpoint, add_special_tokens: bool) -> Callable[[str], int] | None:
    """Return what counts the tokens of a text; None where there is no tokenizer.json."""
    from tokenizers import Tokenizer

    path = None if found.tokenizer_folder is None else found.tokenizer_folder / "tokenizer.json"
    if path is None or not path.is_file():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises this very class
        raise StudyError(f"{path}: no readable tokenizer ({error}); save it again") from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)


def _beyond_vocabulary(found: LocalCheckpoint, limits: ModelLimits) -> Iterator[str]:
    """Yield where the tokenizer has tokens that the model does not embed."""
    path = (found.tokenizer_folder or found.folder) / "tokenizer.json"
    if found.tokenizer_folder is None or limits.vocabulary is None or not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = content["model"]["vocab"]
        ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        largest = max([*ids, *(token["id"] for token in content["added_tokens"])])
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    if largest >= limits.vocabulary:
        yield (
            f"{path}: has token ids up to {largest}, but the model embeds only "
            f"{limits.vocabulary} tokens; a text with a later one is refused"
        )


def suspicious(study: Study, results: Path) -> list[str]:
    """Return a line for each thing that a user should look at; StudyError as `check_small_files`.

    Weights that were not taken up yet are compared by samples of their bytes.
    """
    return [
        *check_small_files(study, results),
        *same_steps(study.sheet),
        *same_weights(study, results),
    ]


def same_weights(study: Study, results: Path) -> list[str]:
    """Return the rows of a model that are one and the same weights, a line for each."""
    digests = _recorded(study, results) | _sampled(study, results)
    names: dict[tuple[str, str], list[str]] = {}
    for (model, checkpoint), digest in digests.items():
        names.setdefault((model, digest), []).append(checkpoint)
    sheet = study.path(study.settings.checkpoints)
    return [
        f"{sheet}: checkpoints {', '.join(map(repr, found))} of model {model!r} have the same "
        "weights: one checkpoint stands under several names, or a revision is wrong; check their "
        "`source`, `revision` and `subfolder`"
        for (model, _), found in names.items()
        if len(found) > 1
    ]


def left_out(results: Path) -> list[str]:
    """Return which checkpoints the studies' tables do without, and why."""
    reasons: list[str] = []
    for name in TABLES:
        path = results / "tables" / f"{name}.parquet"
        if path.exists():
            # Only then: the library that reads a table takes a moment to import.
            from glossogenesis.storage.tables import read_provenance

            with suppress(StudyError):
                reasons += read_provenance(path).facts.get(LEFT_OUT, {}).values()
    return [f"not in tables and figures: {reason}" for reason in dict.fromkeys(reasons)]


def _recorded(study: Study, results: Path) -> dict[tuple[str, str], str]:
    """Return a digest of the weights of each checkpoint that was taken up."""
    digests = {}
    for row in study.sheet:
        manifest = results / "checkpoints" / row.model / row.checkpoint / "manifest.json"
        try:
            weights = json.loads(manifest.read_text(encoding="utf-8"))["weights"]
            files = sorted(facts["sha256"] for facts in weights.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # Whoever reads the manifest for its job says what is wrong with it.
            continue
        digests[row.model, row.checkpoint] = " ".join(files)
    return digests


def _sampled(study: Study, results: Path) -> dict[tuple[str, str], str]:
    """Return a digest of samples of the weights of each folder that was not taken up yet."""
    digests = {}
    for found in local_checkpoints(study, results):
        try:
            files = check_weights(found.folder) if found.folder.is_dir() else []
        except StudyError:
            # The preflight says it.
            continue
        digest = hashlib.sha256()
        for path in files:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                if size <= READ_WHOLE:
                    digest.update(file.read())
                    continue
                for sample in range(SAMPLES):
                    file.seek(sample * (size - SAMPLED) // (SAMPLES - 1))
                    digest.update(file.read(SAMPLED))
        if files:
            digests[found.row.model, found.row.checkpoint] = digest.hexdigest()
    return digests
