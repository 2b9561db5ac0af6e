"""The gradients written by hand are those of autograd on the dense formulas."""

import pytest
import torch
from torch import Tensor

from glossogenesis.sae import gradients
from glossogenesis.sae.autoencoder import SparseAutoencoder
from glossogenesis.sae.trainer import StepPlan, Trainer, Workspace

D_MODEL, N_LATENTS, ROWS, K = 24, 96, 50, 5
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def random_sae(architecture, dtype) -> SparseAutoencoder:
    generator = torch.Generator().manual_seed(0)
    k = None if architecture == "relu" else K
    sae = SparseAutoencoder(D_MODEL, N_LATENTS, architecture, k=k).to(dtype)
    for parameter in sae.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype) / 4)
    return sae


def random_batch(dtype, rows: int = ROWS) -> Tensor:
    return torch.randn(rows, D_MODEL, generator=torch.Generator().manual_seed(1), dtype=dtype)


def dense_loss(
    sae: SparseAutoencoder,
    u: Tensor,
    *,
    l1_coefficient: float = 0.0,
    dead: Tensor | None = None,
    auxk: int = 0,
    auxk_coefficient: float = 0.0,
) -> Tensor:
    """The training loss as its definition has it, with every dense matrix that autograd wants."""
    before = (u - sae.b_dec) @ sae.w_enc.t() + sae.b_enc
    positive = before.relu()
    if sae.architecture == "topk":
        chosen = before.topk(K, dim=1).indices
        mask = torch.zeros_like(before).scatter_(1, chosen, 1.0)
    elif sae.architecture == "batchtopk":
        chosen = positive.flatten().topk(K * len(u)).indices
        mask = torch.zeros_like(before).flatten().scatter_(0, chosen, 1.0).view_as(before)
    else:
        mask = torch.ones_like(before)
    latents = positive * mask
    reconstruction = latents @ sae.w_dec + sae.b_dec
    loss = (reconstruction - u).square().sum(1).mean()
    loss = loss + l1_coefficient * latents.sum(1).mean()
    if dead is not None:
        left = (u - reconstruction).detach()
        of_dead = positive[:, dead]
        chosen = before[:, dead].topk(auxk, dim=1).indices
        of_dead = of_dead * torch.zeros_like(of_dead).scatter_(1, chosen, 1.0)
        auxiliary = (of_dead @ sae.w_dec[dead] - left).square().sum(1).mean()
        loss = loss + auxk_coefficient * auxiliary
    return loss


def by_autograd(sae: SparseAutoencoder, u: Tensor, **options) -> dict[str, Tensor]:
    sae.requires_grad_(True)
    dense_loss(sae, u, **options).backward()
    found = {name: parameter.grad for name, parameter in sae.named_parameters()}
    sae.requires_grad_(False)
    return found


def by_hand(trainer: Trainer, u: Tensor) -> dict[str, Tensor]:
    trainer.gradients_of(u)
    return {name: parameter.grad for name, parameter in trainer.sae.named_parameters()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], dtype) -> None:
    for name, gradient in expected.items():
        difference = (found[name] - gradient).norm() / gradient.norm()
        assert difference < TOLERANCE[dtype], name


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Many chunks of tokens and of gathered directions, the last ones not full."""
    monkeypatch.setattr("glossogenesis.sae.autoencoder.CHUNK_VALUES", 7 * N_LATENTS)
    monkeypatch.setattr("glossogenesis.sae.gradients.GATHERED_VALUES", 11 * D_MODEL)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("architecture", "path"),
    [("topk", "sparse"), ("topk", "dense"), ("batchtopk", "sparse"), ("relu", "dense")],
)
def test_gradients_are_those_of_autograd(architecture, path, dtype):
    l1_coefficient = 0.05 if architecture == "relu" else 0.0
    u = random_batch(dtype)
    expected = by_autograd(random_sae(architecture, dtype), u, l1_coefficient=l1_coefficient)
    plan = StepPlan(learning_rate=1e-3, total_steps=1, l1_coefficient=l1_coefficient, path=path)
    trainer = Trainer(random_sae(architecture, dtype), plan)
    assert_equal(by_hand(trainer, u), expected, dtype)
    # Buffers are used again: a second batch must not see what the first left.
    assert_equal(by_hand(trainer, u), expected, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("architecture", "path"), [("topk", "sparse"), ("topk", "dense"), ("batchtopk", "sparse")]
)
def test_the_auxiliary_loss_reaches_encoder_and_decoder(architecture, path, dtype):
    dead = torch.tensor([3, 10, 11, 40, 41, 42, 90])
    u = random_batch(dtype)
    expected = by_autograd(
        random_sae(architecture, dtype), u, dead=dead, auxk=4, auxk_coefficient=0.5
    )
    plan = StepPlan(
        learning_rate=1e-3,
        total_steps=1,
        auxk_coefficient=0.5,
        auxk=4,
        dead_after_tokens=1000,
        path=path,
    )
    trainer = Trainer(random_sae(architecture, dtype), plan)
    trainer.tokens = 1000
    trainer.tokens_since_fired[dead] = 1000
    found = by_hand(trainer, u)
    assert_equal(found, expected, dtype)
    without = by_autograd(random_sae(architecture, dtype), u)
    assert (found["w_enc"] - without["w_enc"])[dead].norm() > 0.01
    alive = torch.ones(N_LATENTS, dtype=torch.bool).index_fill(0, dead, False)
    assert torch.allclose(found["w_enc"][alive], without["w_enc"][alive], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gathering_as_on_a_gpu_gives_the_same(dtype, monkeypatch):
    u = random_batch(dtype)
    expected = by_autograd(random_sae("topk", dtype), u)
    monkeypatch.setattr(gradients, "_sampled_dots", gradients._gathered_dots)
    trainer = Trainer(
        random_sae("topk", dtype), StepPlan(learning_rate=1e-3, total_steps=1, path="sparse")
    )
    assert_equal(by_hand(trainer, u), expected, dtype)


def test_a_token_with_fewer_positive_latents_than_k_sends_no_gradient_through_the_others():
    sae = random_sae("topk", torch.float64)
    sae.b_enc.fill_(-2.0)
    u = random_batch(torch.float64)
    positive = (sae.preactivations(u) > 0).sum(1)
    assert (positive < K).any()
    expected = by_autograd(sae, u)
    trainer = Trainer(sae, StepPlan(learning_rate=1e-3, total_steps=1, path="sparse"))
    assert_equal(by_hand(trainer, u), expected, torch.float64)


def test_the_encoder_product_in_bfloat16_changes_gradients_only_by_its_rounding():
    u = random_batch(torch.float32)
    plan = StepPlan(learning_rate=1e-3, total_steps=1, path="sparse")
    exact = Trainer(random_sae("topk", torch.float32), plan)
    exact_gradients = {name: g.clone() for name, g in by_hand(exact, u).items()}
    rounded = Trainer(random_sae("topk", torch.float32), plan, workspace=Workspace("bfloat16"))
    for name, gradient in by_hand(rounded, u).items():
        assert gradient.dtype == torch.float32
        difference = (gradient - exact_gradients[name]).norm() / exact_gradients[name].norm()
        assert 0 < difference < 0.1, name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("architecture", "path"),
    [("topk", "sparse"), ("topk", "dense"), ("batchtopk", "sparse"), ("relu", "dense")],
)
def test_every_device_here_gives_the_same(architecture, path, device):
    u = random_batch(torch.float64)
    expected = by_autograd(random_sae(architecture, torch.float64), u)
    plan = StepPlan(learning_rate=1e-3, total_steps=1, path=path)
    trainer = Trainer(random_sae(architecture, torch.float64).to(device), plan)
    found = {name: gradient.cpu() for name, gradient in by_hand(trainer, u.to(device)).items()}
    assert_equal(found, expected, torch.float64)
