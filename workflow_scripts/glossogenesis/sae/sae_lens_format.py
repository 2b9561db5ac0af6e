"""An autoencoder in the terms of SAELens 6: the names, shapes and scales of its tensors.

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

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glossogenesis.errors import StudyError
from glossogenesis.sae.autoencoder import Architecture, SparseAutoencoder

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
