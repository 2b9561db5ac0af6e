"""What small files of a study's own checkpoints say before anything runs.

Their configurations and tokenizers are read, no weights: architecture, layers, positions and
vocabulary are known from them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from glossogenesis.corpora.lexicon import Lexicon, read_lexicon
from glossogenesis.errors import StudyError
from glossogenesis.models.config_file import read_config
from glossogenesis.models.files import holds_tokenizer, tokenizer_digest
from glossogenesis.models.limits import ModelLimits, check_supported
from glossogenesis.study.section import is_local
from glossogenesis.study.sheet import Checkpoint
from glossogenesis.study.study import Study
from glossogenesis.workflow.stages_concepts import endonyms, lexicon_settings


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
        mend = f"lower `corpora.{corpus}.context`"
        if line := limits.longer(context, "contexts", described_as, mend):
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
    mend = "lower `concepts.few_shot`"
    if line := limits.longer(tokens, "prompts with their answers", place, mend):
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
