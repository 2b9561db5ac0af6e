"""A language model as a classifier: with a fresh head before training, on disk after it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from glossogenesis.exceptions import StudyError
from glossogenesis.models.checkpoints import CheckpointLocation, local_files, tokenizer_files
from glossogenesis.models.weight_files import check_supported, check_weights, read_config
from glossogenesis.storage.files import atomic_path
from glossogenesis.storage.provenance import Provenance
from glossogenesis.storage.tensors import write_safetensors

HEAD = "score.weight"


def fresh_classifier(
    location: CheckpointLocation, labels: Sequence[str], *, pad_id: int, seed: int
) -> PreTrainedModel:
    """Load a language model in float32 and put a classification head on it.

    The head is linear, without bias, `[label, d_model]`, drawn by `seed` from a normal distribution
    as wide as the model's other weights at their initialisation. It reads the final norm's output
    at the last token that is not `pad_id`.

    Raises:
        StudyError: there are fewer than two labels, the architecture is unsupported, or weights are
            pickles, missing, truncated, or do not cover the model.
    """
    if len(labels) < 2:
        raise StudyError(
            f"the training posts have only the label {labels[0]!r}; a classifier needs two or more"
        )
    files = local_files(location)
    check_supported(read_config(files.folder), files.folder / "config.json")
    check_weights(files.folder)
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(
                files.folder, trust_remote_code=False, local_files_only=True
            )
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: number for number, label in enumerate(labels)}
            config.pad_token_id = pad_id
            config.problem_type = "single_label_classification"
            model, report = AutoModelForSequenceClassification.from_pretrained(
                files.folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise StudyError(f"{files.folder}: cannot be loaded ({first_line})") from None
    if missing := sorted(set(report["missing_keys"]) - {HEAD}):
        raise StudyError(
            f"{files.folder}: the weight files lack {len(missing)} weights of the model "
            f"({', '.join(missing[:3])}); they would be random. Save the checkpoint whole"
        )
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(
        model.get_parameter(HEAD), std=config.initializer_range, generator=generator
    )
    classifier: PreTrainedModel = model
    return classifier


def save_classifier(
    folder: Path, model: PreTrainedModel, tokenizer_folder: Path, provenance: Provenance
) -> None:
    """Write model and tokenizer in the transformers format, in place of what `folder` holds.

    Weights are one safetensors file in float32; the tokenizer's files are copied as they are, so
    that its digest stays.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    model.config.architectures = [type(model).__name__]
    with tempfile.TemporaryDirectory(prefix=".config.", dir=folder) as draft:
        model.config.save_pretrained(draft)
        _copy(Path(draft) / "config.json", folder)
    for path in tokenizer_files(tokenizer_folder):
        _copy(path, folder)
    weights = model.state_dict()
    with atomic_path(folder / "model.safetensors") as temporary:
        # transformers refuses weights whose metadata does not name the framework.
        write_safetensors(temporary, weights, {"format": "pt", **provenance.to_metadata()})


def _copy(path: Path, folder: Path) -> None:
    with atomic_path(folder / path.name) as temporary:
        shutil.copyfile(path, temporary)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Print neither bars nor the report that the head is new: it is meant to be.

    The Trainer sets the verbosity for good; it is set back here.
    """
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # unannotated in transformers
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # unannotated in transformers
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # unannotated in transformers
