"""Autoencoders on disk: `cfg.json` and `sae_weights.safetensors`, as SAELens 6 reads them.

What this library knows beside what SAELens asks for stands under `metadata` in `cfg.json`, where
SAELens lets anything stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glossogenesis.errors import StudyError
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.sae_lens_format import (
    NORMALISATIONS,
    REMAKE,
    SAE_LENS_NAMES,
    empty_of_config,
    fill_from_sae_lens,
    to_sae_lens,
)
from glossogenesis.storage.files import atomic_path, read_json, write_json
from glossogenesis.storage.provenance import Provenance, file_digest
from glossogenesis.storage.safetensors_file import write_safetensors
from glossogenesis.storage.tensors import read_tensors

if TYPE_CHECKING:
    from glossogenesis.storage.activations.cache import ActivationCache

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"

SAE_LENS_VERSION = "6.54.12"
"""The version whose format this is; SAELens takes files without it for those of version 5."""

OWN_KEY = "glossogenesis"
"""Where this library's own facts stand in the metadata of `cfg.json`."""


@dataclass(frozen=True)
class SaeFacts:
    """Where an autoencoder's activations come from, and how it was trained."""

    hook_name: str
    """The module whose output it reads, such as `model.layers.3`."""
    model_name: str
    """What transformers loads the model from: a Hub id or a folder."""
    revision: str | None
    context_size: int
    """Tokens of a context."""
    dataset: str
    """Name of the corpus."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """JSON: seed, learning rate, held-out losses of all rates, warm start and whatever else the
    training knows."""

    @classmethod
    def of_cache(cls, cache: ActivationCache, training: Mapping[str, Any]) -> SaeFacts:
        """Facts of an autoencoder that is trained on cached activations."""
        return cls(
            hook_name=cache.hook,
            model_name=cache.source,
            revision=cache.revision,
            context_size=cache.context,
            dataset=cache.corpus,
            training=training,
        )


def write_sae(
    folder: Path | str, sae: SparseAutoencoder, facts: SaeFacts, provenance: Provenance
) -> None:
    """Write `cfg.json` and `sae_weights.safetensors`, the weights last, each all or nothing.

    Equal autoencoders, facts and provenance give equal bytes.

    Raises:
        ValueError: a `batchtopk` whose training has not set its threshold.
    """
    folder = Path(folder)
    tensors = to_sae_lens(sae)
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        write_safetensors(temporary, tensors, provenance.to_metadata())
        config = _config(sae, facts, provenance, weights_digest=file_digest(temporary))
        write_json(folder / CONFIG_FILE, config, seal_in=("metadata", OWN_KEY))


def write_no_sae(folder: Path | str, provenance: Provenance) -> None:
    """Write the files of `write_sae` without an autoencoder, whose provenance says why."""
    folder = Path(folder)
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        write_safetensors(temporary, {}, provenance.to_metadata())
        own = _recorded({}, provenance, file_digest(temporary))
        config = {"metadata": {OWN_KEY: own}}
        write_json(folder / CONFIG_FILE, config, seal_in=("metadata", OWN_KEY))


def read_sae(path: Path | str, *, d_model: int | None = None) -> SparseAutoencoder:
    """Read an autoencoder, on the CPU, float32.

    Args:
        path: its folder, or the weights file in it.
        d_model: width of the residual stream that it will be given, if known.

    Raises:
        StudyError: a file is missing or damaged, the two files do not belong together, the
            autoencoder is of another width, or of a kind that this library does not compute.
    """
    folder = sae_folder(path)
    config = read_config(folder)
    k = _own(config).get("k")
    sae = empty_of_config(config, folder / CONFIG_FILE, k_of_batchtopk=k)
    if d_model is not None and sae.d_model != d_model:
        raise StudyError(
            f"{folder / CONFIG_FILE}: an autoencoder of width {sae.d_model}, but the activations "
            f"are {d_model} wide; give the autoencoder of this model"
        )
    _check_digest(folder, config)
    fill_from_sae_lens(sae, read_tensors(folder / WEIGHTS_FILE), folder / WEIGHTS_FILE)
    return sae


def read_config(path: Path | str) -> dict[str, Any]:
    """Read an autoencoder's `cfg.json`; its metadata is a dict, empty where there is none."""
    file = sae_folder(path) / CONFIG_FILE
    config = read_json(file)
    if not isinstance(config, dict) or not isinstance(config.get("metadata", {}), dict):
        raise StudyError(f"{file}: not the configuration of an autoencoder; {REMAKE}")
    return {**config, "metadata": config.get("metadata", {})}


def read_own_facts(path: Path | str) -> dict[str, Any]:
    """Read what this library recorded of an autoencoder: `architecture`, `training` and so on.

    Raises:
        StudyError: the file was written by something else.
    """
    own = _own(read_config(path))
    if not own:
        raise StudyError(
            f"{sae_folder(path) / CONFIG_FILE}: has no `{OWN_KEY}` in its metadata; it was not "
            "written by Glossogenesis"
        )
    return own


def origin_of_sae(path: Path | str) -> Provenance:
    """Return what made an autoencoder: nothing that is known where another program did."""
    unknown = {"kind": "sae", "study": "", "settings": {}, "inputs": {}, "code": ""}
    return Provenance(**_own(read_config(path)).get("provenance", unknown))


def check_origin(path: Path | str, model: str, checkpoint: str, layer: int) -> None:
    """Refuse an autoencoder that was trained on another model, checkpoint or layer.

    One that does not say so passes: other programs write none of it.

    Raises:
        StudyError: it was trained on something else; the message names both.
    """
    provenance = _own(read_config(path)).get("provenance", {})
    expected = {"model": model, "checkpoint": checkpoint, "layer": layer}
    for key, value in expected.items():
        recorded = provenance.get(key)
        if recorded is not None and recorded != value:
            raise StudyError(
                f"{sae_folder(path) / CONFIG_FILE}: an autoencoder of {key} {recorded!r}, but "
                f"{key} {value!r} is measured; give the one that belongs to it"
            )


def weights_of_layers(folder: Path, layers: Iterable[int], sae: str) -> dict[int, Path]:
    """Return where each layer's weights lie in a folder that has `layer_{layer}/{sae}/`."""
    return {layer: folder / f"layer_{layer}" / sae / WEIGHTS_FILE for layer in layers}


def sae_folder(path: Path | str) -> Path:
    """Return the folder of an autoencoder, from itself or from its weights file."""
    path = Path(path)
    return path.parent if path.name == WEIGHTS_FILE else path


def _config(
    sae: SparseAutoencoder, facts: SaeFacts, provenance: Provenance, *, weights_digest: str
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architecture": SAE_LENS_NAMES[sae.architecture],
        "d_in": sae.d_model,
        "d_sae": sae.n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": NORMALISATIONS[sae.normalise],
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": SAE_LENS_VERSION,
            "sae_lens_training_version": None,
            "model_name": facts.model_name,
            "model_class_name": "AutoModelForCausalLM",
            "model_from_pretrained_kwargs": (
                {} if facts.revision is None else {"revision": facts.revision}
            ),
            "hook_name": facts.hook_name,
            "hook_head_index": None,
            "context_size": facts.context_size,
            "dataset_path": facts.dataset,
            "seqpos_slice": [None],
            "exclude_special_tokens": True,
            OWN_KEY: {
                "architecture": sae.architecture,
                "k": sae.k,
                "normalise": sae.normalise,
                "threshold": sae.threshold,
                **_recorded(facts.training, provenance, weights_digest),
            },
        },
    }
    if sae.architecture == "topk":
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    return config


def _recorded(
    training: Mapping[str, Any], provenance: Provenance, weights_digest: str
) -> dict[str, Any]:
    return {
        "training": dict(training),
        "weights_sha256": weights_digest,
        "provenance": asdict(provenance),
    }


def _check_digest(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse weights that are damaged, or those of another configuration."""
    weights = folder / WEIGHTS_FILE
    expected = _own(config).get("weights_sha256")
    if not weights.is_file():
        raise StudyError(f"{weights}: no such file; run the workflow to make it")
    if expected is not None and file_digest(weights) != expected:
        raise StudyError(
            f"{weights}: damaged, or not the weights that {CONFIG_FILE} belongs to; {REMAKE}"
        )


def _own(config: Mapping[str, Any]) -> dict[str, Any]:
    """What this library recorded in a configuration; nothing where another program wrote it."""
    own = config["metadata"].get(OWN_KEY)
    return own if isinstance(own, dict) else {}
