"""What an injection adds, by the formula and at the edges where the answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from glossogenesis.injection.method import (
    LatentGroups,
    Method,
    Reading,
    Variant,
    change_of,
    changed_states,
    variants_of,
    with_matched_norms,
)
from glossogenesis.sae.autoencoder import SparseAutoencoder
from support.tiny_saes import perfect_sae, random_sae

D, N = 8, 24


def states(seed: int, rows: int = 40, d: int = D) -> Tensor:
    return 3 * torch.randn(rows, d, generator=torch.Generator().manual_seed(seed))


def by_the_formula(sae: SparseAutoencoder, h: Tensor, latents: list[int]) -> Tensor:
    """sum over S of z_i W_dec[i] of each row, densely."""
    u = h / h.norm(dim=1, keepdim=True) if sae.normalise == "l2" else h
    before = (u - sae.b_dec) @ sae.w_enc.T + sae.b_enc
    z = torch.zeros_like(before)
    if sae.architecture == "topk":
        top = before.topk(sae.k, dim=1)
        z.scatter_(1, top.indices, top.values.relu())
    else:
        z = before.relu()
    return z[:, latents] @ sae.w_dec[latents]


@pytest.mark.parametrize("architecture", ["topk", "relu"])
@pytest.mark.parametrize("normalise", ["l2", "none"])
@pytest.mark.parametrize("scale", ["source", "target"])
@pytest.mark.parametrize("mode", ["add", "replace"])
def test_the_change_is_the_formula(architecture: str, normalise: str, scale: str, mode: str):
    sae = random_sae(D, N, architecture=architecture, normalise=normalise)
    source, target, latents = states(1), states(2), [1, 4, 5, 9, 17]
    change = change_of(
        Variant("en", "none", None, torch.tensor(latents)),
        0.7,
        Reading.of(sae, source),
        Reading.of(sae, target),
        Method(scale=scale, mode=mode),
        sae.w_dec,
    )
    norms = {"source": source.norm(dim=1, keepdim=True), "target": target.norm(dim=1, keepdim=True)}
    ones = torch.ones(len(source), 1)
    factor = norms[scale] if normalise == "l2" else ones
    expected = factor * by_the_formula(sae, source, latents)
    if mode == "replace":
        own = norms["target"] if normalise == "l2" else ones
        expected = expected - own * by_the_formula(sae, target, latents)
    torch.testing.assert_close(change, 0.7 * expected, rtol=1e-4, atol=1e-4)


def test_the_decoders_bias_is_not_injected() -> None:
    sae = random_sae(D, N)
    everything = Variant("en", "none", None, torch.arange(N))
    reading = Reading.of(sae, states(1))
    change = change_of(everything, 1.0, reading, None, Method(), sae.w_dec)
    reconstruction = sae.reconstruct(states(1))
    bias = sae.b_dec * states(1).norm(dim=1, keepdim=True)
    assert float(sae.b_dec.norm()) > 0.01
    torch.testing.assert_close(change, reconstruction - bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalise", ["l2", "none"])
def test_replacing_all_features_of_a_perfect_autoencoder_gives_the_source(normalise: str) -> None:
    sae = perfect_sae(D, normalise=normalise)
    torch.testing.assert_close(sae.reconstruct(states(1)), states(1))
    everything = Variant("all", "none", None, torch.arange(sae.n_latents))
    change = change_of(
        everything,
        1.0,
        Reading.of(sae, states(1)),
        Reading.of(sae, states(2)),
        Method(mode="replace"),
        sae.w_dec,
    )
    torch.testing.assert_close(states(2) + change, states(1))


def test_replacing_a_models_features_by_its_own_changes_nothing() -> None:
    sae, reading = random_sae(D, N), Reading.of(random_sae(D, N), states(1))
    group = Variant("en", "none", None, torch.arange(5))
    change = change_of(group, 2.0, reading, reading, Method(mode="replace"), sae.w_dec)
    assert not change.any()


def test_a_row_of_zeros_and_a_group_that_does_not_fire_change_nothing() -> None:
    sae = random_sae(D, N)
    reading = Reading.of(sae, torch.zeros(2, D))
    everything = Variant("en", "none", None, torch.arange(N))
    nothing = Variant("en", "none", None, torch.arange(0))
    assert not change_of(everything, 1.0, reading, None, Method(), sae.w_dec).any()
    reading = Reading.of(sae, states(1))
    assert not change_of(nothing, 1.0, reading, None, Method(), sae.w_dec).any()


def test_a_method_that_reads_the_target_needs_it() -> None:
    sae = random_sae(D, N)
    with pytest.raises(ValueError, match="reads off the target"):
        change_of(
            Variant("en", "none", None, torch.arange(2)),
            1.0,
            Reading.of(sae, states(1)),
            None,
            Method(scale="target"),
            sae.w_dec,
        )


def test_only_chosen_tokens_change_and_in_their_own_number_format() -> None:
    before = torch.randn(2, 3, D, dtype=torch.bfloat16)
    where = torch.tensor([[False, True, False], [True, False, False]])
    after = changed_states(before, where, torch.ones(2, D))
    assert after.dtype == torch.bfloat16
    assert torch.equal(after[~where], before[~where])
    torch.testing.assert_close(after[where], (before[where].float() + 1).bfloat16())


GROUPS = LatentGroups({"en": torch.tensor([0, 3, 8]), "ja": torch.tensor([], dtype=torch.int64)},
                      alive=torch.tensor([0, 1, 2, 3, 5, 8, 9, 11, 20]))  # fmt: skip


def test_every_group_has_its_controls() -> None:
    variants = variants_of(GROUPS, d_model=D, draws=2, seed=0, layer=1)
    shown = [(variant.group, variant.control, variant.draw) for variant in variants]
    assert shown == [
        ("en", "none", None),
        ("en", "random", 0),
        ("en", "norm_matched", 0),
        ("en", "random", 1),
        ("en", "norm_matched", 1),
        ("ja", "none", None),
    ]
    for variant in variants:
        if variant.control == "random":
            assert len(variant.latents) == 3
            assert set(variant.latents.tolist()) <= {1, 2, 5, 9, 11, 20}
    assert variants[1].latents.tolist() != variants[3].latents.tolist()


def test_draws_depend_on_seed_and_layer_and_on_nothing_else() -> None:
    def drawn(**changed: int) -> list[int]:
        keywords = {"d_model": D, "draws": 1, "seed": 0, "layer": 1} | changed
        return variants_of(GROUPS, **keywords)[1].latents.tolist()

    assert drawn() == drawn() == drawn(draws=4)
    assert len({tuple(drawn(seed=seed)) for seed in range(9)}) > 1
    assert len({tuple(drawn(layer=layer)) for layer in range(9)}) > 1


def test_a_random_group_is_as_large_as_the_others_allow() -> None:
    groups = LatentGroups({"en": torch.arange(5)}, alive=torch.arange(7))
    variants = variants_of(groups, d_model=D, draws=1, seed=0, layer=0)
    assert variants[1].latents.tolist() == [5, 6]


@pytest.mark.parametrize("mode", ["add", "replace"])
def test_controls_have_the_groups_norms(mode: str) -> None:
    """A random direction at every token, random latents on average."""
    sae, method = random_sae(D, N), Method(mode=mode)
    readings = [
        (Reading.of(sae, states(1)), Reading.of(sae, states(2))),
        (Reading.of(sae, states(3, rows=10)), Reading.of(sae, states(4, rows=10))),
    ]
    groups = LatentGroups({"en": torch.arange(6)}, alive=torch.arange(N))
    drawn = variants_of(groups, d_model=D, draws=2, seed=0, layer=0)
    variants, means = with_matched_norms(drawn, readings, method, sae.w_dec)

    def norms(variant: Variant) -> Tensor:
        return torch.cat(
            [
                change_of(variant, 1.0, *reading, method, sae.w_dec).norm(dim=1)
                for reading in readings
            ]
        )

    of_group = norms(variants[0])
    assert means == pytest.approx([float(of_group.mean())] * 5)
    for variant in variants:
        if variant.control == "norm_matched":
            torch.testing.assert_close(norms(variant), of_group)
        else:
            assert float(norms(variant).mean()) == pytest.approx(float(of_group.mean()), rel=1e-4)


def test_a_random_group_that_never_fires_is_not_scaled_up() -> None:
    sae = random_sae(D, N)
    sae.b_enc[6:] = -100.0
    groups = LatentGroups({"en": torch.arange(6)}, alive=torch.arange(N))
    drawn = variants_of(groups, d_model=D, draws=1, seed=0, layer=0)
    variants, means = with_matched_norms(
        drawn, [(Reading.of(sae, states(1)), None)], Method(), sae.w_dec
    )
    assert variants[1].factor == 0.0
    assert means[1] == 0.0
