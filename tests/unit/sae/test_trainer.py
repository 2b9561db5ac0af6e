"""Whole steps against autograd and Adam, and what a trainer records on the way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.trainer import (
    StepPlan,
    Trainer,
    geometric_median,
    initial_autoencoder,
    rate_factor,
)
from glossogenesis.sae.training import HeldOutSums
from support.planted_dictionary import planted

K, LATENTS = 3, 40


def batches(count: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    data = planted(n_features=24, d_model=16, active=3, rows=64 * count, noise=0.05)
    return list(data.activations.to(dtype).split(64))


def start(first: Tensor) -> SparseAutoencoder:
    sae = initial_autoencoder(first.float(), LATENTS, "topk", k=K, normalise="none", seed=0)
    return sae.to(first.dtype)


def test_training_follows_autograd_with_adam_and_a_unit_decoder() -> None:
    plan = StepPlan(
        learning_rate=1e-2,
        total_steps=20,
        warmup_steps=4,
        decay_share=0.25,
        adam_epsilon=6.25e-10,
        clip_norm=0.05,
        path="sparse",
    )
    data = batches(20, torch.float64)
    trainer = Trainer(start(data[0]), plan)
    reference = start(data[0]).requires_grad_(True)
    optimizer = torch.optim.Adam(reference.parameters(), eps=6.25e-10, foreach=False)
    for step, u in enumerate(data, 1):
        trainer.step(u)
        before = (u - reference.b_dec) @ reference.w_enc.t() + reference.b_enc
        mask = torch.zeros_like(before).scatter_(1, before.topk(K, dim=1).indices, 1.0)
        error = (before.relu() * mask) @ reference.w_dec + reference.b_dec - u
        optimizer.zero_grad()
        error.square().sum(1).mean().backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.05)
        optimizer.param_groups[0]["lr"] = 1e-2 * rate_factor(
            step, 20, warmup_steps=4, decay_share=0.25
        )
        optimizer.step()
        with torch.no_grad():
            reference.w_dec.copy_(functional.normalize(reference.w_dec, dim=1))
        for name, parameter in reference.named_parameters():
            ours = trainer.sae.get_parameter(name)
            torch.testing.assert_close(ours, parameter.detach(), rtol=1e-7, atol=1e-9)
    assert (trainer.sae.w_dec - start(data[0]).w_dec).norm() > 0.1


def test_directions_keep_unit_norm() -> None:
    data = batches(5)
    trainer = Trainer(start(data[0]), StepPlan(learning_rate=0.1, total_steps=5))
    for u in data:
        trainer.step(u)
        torch.testing.assert_close(trainer.sae.w_dec.norm(dim=1), torch.ones(LATENTS))


def test_facts_of_a_step_are_those_of_the_batch_before_it() -> None:
    (u,) = batches(1)
    trainer = Trainer(start(u), StepPlan(learning_rate=1e-3, total_steps=1))
    before = start(u)
    fired = before.fired(u)
    facts = trainer.step(u)
    expected = (before.decode(fired) - u).square().sum(1).mean()
    torch.testing.assert_close(facts.loss, expected)
    assert facts.l0 == len(fired.values) / len(u)


def test_dead_share_counts_latents_that_have_not_fired_in_the_window() -> None:
    data = batches(6)
    sae = start(data[0])
    # Ten latents never fire; ten others only in the first batch, then their bias is taken away.
    sae.b_enc[:10] = -100.0
    plan = StepPlan(learning_rate=1e-9, total_steps=6, dead_after_tokens=3 * 64)
    trainer = Trainer(sae, plan)
    seen = torch.zeros(6, LATENTS, dtype=torch.bool)
    for step, u in enumerate(data):
        seen[step, trainer.sae.fired(u).latents] = True
        if step == 1:
            trainer.sae.b_enc[10:20] = -100.0
            seen[step, :20] = False
        facts = trainer.step(u)
        window = seen[max(0, step - 2) : step + 1]
        assert facts.dead_share == (~window.any(0)).double().mean()
    assert facts.dead_share >= 0.5


def test_the_auxiliary_loss_revives_dead_latents() -> None:
    data = batches(120)
    share = {}
    for coefficient in (0.0, 1.0):
        sae = start(data[0])
        sae.b_enc[:20] = -0.7
        plan = StepPlan(
            learning_rate=1e-2,
            total_steps=120,
            auxk_coefficient=coefficient,
            auxk=8,
            dead_after_tokens=128,
        )
        trainer = Trainer(sae, plan)
        for u in data:
            facts = trainer.step(u)
        share[coefficient] = float(facts.dead_share)
    assert share[1.0] < share[0.0] - 0.1


def test_the_rate_rises_stays_and_falls() -> None:
    factors = [rate_factor(step, 10, warmup_steps=4, decay_share=0.2) for step in range(1, 11)]
    assert factors == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 2 / 3, 1 / 3])
    assert rate_factor(1, 10, warmup_steps=0, decay_share=0.0) == 1
    assert rate_factor(10, 10, warmup_steps=0, decay_share=0.0) == 1


def test_the_geometric_median_is_where_the_sum_of_distances_is_least() -> None:
    # Of an odd number of points on a line, it is the middle one; outliers do not move it.
    line = torch.tensor([0.0, 1.0, 2.0, 3.0, 1000.0])[:, None] * torch.tensor([[0.6, 0.8]])
    torch.testing.assert_close(
        geometric_median(line, iterations=1000, tolerance=1e-7),
        torch.tensor([1.2, 1.6]),
        atol=1e-3,
        rtol=0,
    )
    points = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) ** 3
    median = geometric_median(points)
    directions = (points - median) / (points - median).norm(dim=1, keepdim=True)
    assert directions.mean(0).norm() < 1e-4


def test_an_autoencoder_starts_tied_with_unit_directions_and_a_median() -> None:
    (u,) = batches(1)
    sae = start(u)
    assert torch.equal(sae.w_enc, sae.w_dec)
    torch.testing.assert_close(sae.w_dec.norm(dim=1), torch.ones(LATENTS))
    assert torch.equal(sae.b_dec, geometric_median(u))
    assert not sae.b_enc.any()


def test_held_out_facts_follow_their_formulas() -> None:
    first, second = batches(2)
    sae = start(first)
    sums = HeldOutSums(sae, l1_coefficient=0.5)
    sums.add(first)
    sums.add(second)
    facts = sums.facts(1e-3)
    u = torch.cat([first, second]).double()
    fired = sae.fired(u.float())
    error = (sae.decode(fired).double() - u).square().sum(1).mean()
    variance = (u - u.mean(0)).square().sum(1).mean()
    assert facts.loss == pytest.approx(float(error + 0.5 * fired.values.sum() / 128), rel=1e-6)
    assert facts.explained_variance == pytest.approx(float(1 - error / variance), rel=1e-5)
    assert facts.l0 == pytest.approx(len(fired.values) / 128)
    assert facts.dead_share == 1 - len(fired.latents.unique()) / LATENTS
    assert facts.tokens == 128
