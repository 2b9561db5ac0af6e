"""Check with SAELens itself that it reads our autoencoders and computes what we compute.

Writes autoencoders of every architecture, with and without L2 normalisation, loads them with
`SAE.load_from_disk`, and compares latents and reconstructions of random activations. Exits with
status 1 where any differs by more than the tolerance.

TopK and BatchTopK jump: where a latent lies at the edge of firing by less than rounding, it may
fire in one and not in the other. Tokens with such a latent are counted and left out; a latent that
fires in only one and is farther from the edge is a difference. Needs the extra `peers`:

    pip install -e '.[peers]'
    python benchmarks/sae_lens_contract.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glossogenesis.sae.autoencoder import Architecture, Normalise, SparseAutoencoder
from glossogenesis.sae.files import SaeFacts, write_sae
from glossogenesis.storage.provenance import Provenance

ARCHITECTURES: tuple[Architecture, ...] = ("topk", "batchtopk", "relu")
NORMALISATIONS: tuple[Normalise, ...] = ("l2", "none")


def main() -> None:
    """Print the largest differences of each kind, and fail where one is too large."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--d-model", type=int, default=96)
    parser.add_argument("--latents", type=int, default=768)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--tolerance", type=float, default=1e-5, help="relative to the norm")
    arguments = parser.parse_args()
    print(f"{'architecture':12} {'normalise':9} {'sae_lens':10} {'latents':>9} {'output':>9}  edge")
    differences: list[float] = []
    for architecture in ARCHITECTURES:
        for normalise in NORMALISATIONS:
            sae = random_sae(arguments, architecture, normalise)
            with tempfile.TemporaryDirectory() as folder:
                found = compare(sae, Path(folder), arguments.rows, arguments.tolerance)
            differences += [found.latents, found.output]
            print(
                f"{architecture:12} {normalise:9} {found.kind:10} {found.latents:9.1e} "
                f"{found.output:9.1e} {found.on_edge:5}"
            )
    # A NaN is not within the tolerance either.
    if not all(difference <= arguments.tolerance for difference in differences):
        print(f"a difference is above {arguments.tolerance:.1e}", file=sys.stderr)
        raise SystemExit(1)


@dataclass(frozen=True)
class Comparison:
    """One kind of autoencoder; differences count relative to the norm of a token's row."""

    kind: str
    """SAELens' name of it."""
    latents: float
    output: float
    on_edge: int
    """Tokens left out."""


def compare(sae: SparseAutoencoder, folder: Path, rows: int, tolerance: float) -> Comparison:
    """Write an autoencoder, let SAELens read it, and compare what both compute."""
    from sae_lens import SAE

    generator = torch.Generator().manual_seed(1)
    x = 3 * torch.randn(rows, sae.d_model, generator=generator) + 1
    facts = SaeFacts("model.layers.3", "org/model", "main", context_size=128, dataset="wiki")
    write_sae(folder, sae, facts, Provenance("sae", "contract", {}, {}, ""))
    peer: Any = SAE.load_from_disk(folder)
    assert peer.cfg.metadata.hook_name == facts.hook_name
    with torch.no_grad():
        latents = peer.encode(x)
        output = peer(x)
    own = dense_latents(sae, x)
    on_edge = rows_on_edge(sae, x, own, latents, tolerance)
    return Comparison(
        kind=str(peer.cfg.architecture()),
        latents=relative_difference(latents[~on_edge], own[~on_edge]),
        output=relative_difference(output[~on_edge], sae.reconstruct(x)[~on_edge]),
        on_edge=int(on_edge.sum()),
    )


def rows_on_edge(
    sae: SparseAutoencoder, x: Tensor, own: Tensor, peer: Tensor, tolerance: float
) -> Tensor:
    """Return which tokens have a latent that fires in one only, at the edge of firing, bool [row].

    A token with a latent that fires in one only and is not at the edge is not among them.
    """
    before = sae.preactivations(sae.to_sae_space(x)[0])
    edge = torch.full((len(x), 1), 0.0 if sae.threshold is None else sae.threshold)
    if sae.architecture == "topk":
        assert sae.k is not None
        edge = before.topk(sae.k, dim=1).values[:, -1:]
    in_one_only = (own > 0) != (peer > 0)
    near = (before - edge).abs() <= tolerance * own.norm(dim=1, keepdim=True)
    return in_one_only.any(dim=1) & ~(in_one_only & ~near).any(dim=1)


def random_sae(
    arguments: argparse.Namespace, architecture: Architecture, normalise: Normalise
) -> SparseAutoencoder:
    """Return an autoencoder with random weights of the kind that the arguments ask for."""
    generator = torch.Generator().manual_seed(0)
    sae = SparseAutoencoder(
        arguments.d_model,
        arguments.latents,
        architecture,
        k=None if architecture == "relu" else arguments.k,
        normalise=normalise,
        threshold=0.5 if architecture == "batchtopk" else None,
    )
    for weight in (sae.w_enc, sae.b_enc, sae.w_dec, sae.b_dec):
        weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    sae.w_dec.div_(sae.w_dec.norm(dim=1, keepdim=True))
    return sae


def dense_latents(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    """Return all latents of activations [row, latent], zeros included."""
    fired = sae.fired(sae.to_sae_space(x)[0])
    dense = torch.zeros(len(x), sae.n_latents)
    dense[fired.rows, fired.latents] = fired.values
    return dense


def relative_difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference in any row over that row's norm."""
    norms = other.norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    return float(((one - other).abs().amax(dim=-1) / norms).max())


if __name__ == "__main__":
    main()
