"""Autoencoders on disk: `cfg.json` and `sae_weights.safetensors`, as SAELens 6 reads them.

What this library knows beside what SAELens asks for stands under `metadata` in `cfg.json`, where
SAELens lets anything stand.

SAELens stores the encoder as [d_in, d_sae], and knows per-token L2 normalisation only as
`constant_norm_rescale`: it multiplies an activation x by c = sqrt(d_in) / |x|, and divides what it
decodes by c. With u = x / |x| an autoencoder of this library computes z from W_enc (u - b_dec) +
b_enc, which is the same as

    z from (W_enc / sqrt(d_in)) (sqrt(d_in) u - sqrt(d_in) b_dec) + b_enc,
    x_hat = (z (sqrt(d_in) W_dec) + sqrt(d_in) b_dec) / c,

so those three are scaled on the way out and scaled back on the way in. z stays as it was. The two
scalings are done in float64; what comes back differs from what was written by at most one rounding
of float32, by nothing where sqrt(d_in) is a power of two, and writing again what was read gives the
same bytes.

`batchtopk` is stored as `jumprelu` with equal thresholds, `relu` as `standard`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.sae.autoencoder import Architecture, SparseAutoencoder
from glossogenesis.storage.files import atomic_path, read_json, write_json
from glossogenesis.storage.provenance import Provenance, file_digest
from glossogenesis.storage.tensors import read_tensors, write_safetensors

if TYPE_CHECKING:
    from glossogenesis.storage.activations.cache import ActivationCache

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"

SAE_LENS_VERSION = "6.54.12"
"""The version whose format this is; SAELens takes files without it for those of version 5."""

OWN_KEY = "glossogenesis"
"""Where this library's own facts stand in the metadata of `cfg.json`."""

SAE_LENS_NAMES: Mapping[Architecture, str] = {
    "topk": "topk",
    "batchtopk": "jumprelu",
    "relu": "standard",
}
"""SAELens' names of the architectures."""

NORMALISATIONS = {"l2": "constant_norm_rescale", "none": "none"}
"""SAELens' names of what is done to activations first."""

REMAKE = "delete the folder and rerun the training"

_OWN_NAMES: Mapping[str, Architecture] = {name: own for own, name in SAE_LENS_NAMES.items()}


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


def to_sae_lens(sae: SparseAutoencoder) -> dict[str, Tensor]:
    """Return the tensors that SAELens wants, float32 on the CPU.

    ValueError for a `batchtopk` whose training has not set its threshold.
    """
    scale = _scale(sae)
    tensors = {
        "W_enc": _times(sae.w_enc.detach().cpu().t(), 1 / scale),
        "b_enc": sae.b_enc.detach().cpu().float().clone(),
        "W_dec": _times(sae.w_dec.detach().cpu(), scale),
        "b_dec": _times(sae.b_dec.detach().cpu(), scale),
    }
    if sae.architecture == "batchtopk":
        if sae.threshold is None:
            raise ValueError("a batchtopk autoencoder is written with the threshold of its latents")
        tensors["threshold"] = torch.full((sae.n_latents,), sae.threshold, dtype=torch.float32)
    return tensors


def fill_from_sae_lens(sae: SparseAutoencoder, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put tensors of SAELens, read from `path`, into an autoencoder; the inverse of `to_sae_lens`.

    StudyError names a tensor that is missing, of another shape, or not finite, and thresholds that
    differ between latents.
    """
    n, d = sae.n_latents, sae.d_model
    shapes = {"W_enc": (d, n), "b_enc": (n,), "W_dec": (n, d), "b_dec": (d,)}
    if sae.architecture == "batchtopk":
        shapes["threshold"] = (n,)
    for name, shape in shapes.items():
        if name not in tensors or tuple(tensors[name].shape) != shape:
            found = tuple(tensors[name].shape) if name in tensors else "missing"
            raise StudyError(
                f"{path}: tensor {name!r} is {found}, but cfg.json says {shape}; {REMAKE}"
            )
        if not bool(tensors[name].isfinite().all()):
            raise StudyError(f"{path}: tensor {name!r} is not finite; {REMAKE}")
    scale = _scale(sae)
    with torch.no_grad():
        sae.w_enc.copy_(_times(tensors["W_enc"].t(), scale))
        sae.b_enc.copy_(tensors["b_enc"])
        sae.w_dec.copy_(_times(tensors["W_dec"], 1 / scale))
        sae.b_dec.copy_(_times(tensors["b_dec"], 1 / scale))
    if sae.architecture == "batchtopk":
        least, greatest = tensors["threshold"].aminmax()
        if least != greatest:
            raise StudyError(
                f"{path}: its latents have thresholds of their own (a JumpReLU autoencoder), which "
                "this library does not compute; give a TopK, BatchTopK or ReLU autoencoder"
            )
        sae.threshold = float(least)


def empty_of_config(
    config: Mapping[str, Any], path: Path, *, k_of_batchtopk: int | None
) -> SparseAutoencoder:
    """Return an autoencoder of zeros with the architecture that a configuration names.

    `path` is the configuration's file, for messages. `k_of_batchtopk` is what SAELens has no place
    for; where it is unknown it plays no role, as the threshold decides what fires.

    StudyError for one that is damaged, or of a kind that this library does not compute.
    """
    required = ("architecture", "d_in", "d_sae")
    if missing := [key for key in required if key not in config]:
        raise StudyError(f"{path}: lacks {missing[0]!r}; {REMAKE}")
    expected = {
        "architecture": tuple(_OWN_NAMES),
        "normalize_activations": tuple(NORMALISATIONS.values()),
        "apply_b_dec_to_input": (True,),
        "reshape_activations": ("none",),
        "rescale_acts_by_decoder_norm": (False,),
    }
    for key, allowed in expected.items():
        if key in config and config[key] not in allowed:
            raise StudyError(
                f"{path}: {key} {config[key]!r} is not computed by this library; it knows "
                f"{', '.join(map(repr, allowed))}"
            )
    architecture = _OWN_NAMES[config["architecture"]]
    normalise = config.get("normalize_activations", "none")
    try:
        return SparseAutoencoder(
            int(config["d_in"]),
            int(config["d_sae"]),
            architecture,
            k=_k(config, architecture, k_of_batchtopk),
            normalise="l2" if normalise == NORMALISATIONS["l2"] else "none",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StudyError(f"{path}: damaged ({error}); {REMAKE}") from None


def _k(
    config: Mapping[str, Any], architecture: Architecture, k_of_batchtopk: int | None
) -> int | None:
    if architecture == "relu":
        return None
    return int(config["k"]) if architecture == "topk" else k_of_batchtopk or 1


def _scale(sae: SparseAutoencoder) -> float:
    return float(sae.d_model**0.5) if sae.normalise == "l2" else 1.0


def _times(tensor: Tensor, factor: float) -> Tensor:
    """The product, rounded once to float32, contiguous and in memory of its own."""
    if factor == 1.0:
        return tensor.float().clone(memory_format=torch.contiguous_format)
    return (tensor.double() * factor).float().contiguous()
