"""Features removed from a classifier: against hooks on the whole model, and known answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.capture import block_output
from glossogenesis.models.prefill import Prefill
from glossogenesis.robustness.knockout import knockout as module
from glossogenesis.robustness.knockout.knockout import KnockedOut, LayerKnockout, Removal, knock_out
from glossogenesis.sae.autoencoder import SparseAutoencoder
from support.planted_classifier import COMMON, STRENGTH, planted_classifier, planted_posts
from support.tiny_classifiers import tiny_classifier
from support.tiny_models import D_MODEL, EACH_ARCHITECTURE, random_tokens
from support.tiny_saes import perfect_sae, random_sae

LAYERS = (0, 3)
POSTS = random_tokens([13, 1, 9, 17])
NOTHING = torch.zeros(0, dtype=torch.int64)
SETS = (NOTHING, torch.arange(3), torch.tensor([7, 30, 41]), torch.arange(48))
REMOVALS = [
    Removal(replace, positions)
    for replace in ("error_preserving", "reconstruction")
    for positions in ("all", "last")
]


def autoencoder(layer: int) -> SparseAutoencoder:
    return random_sae(D_MODEL, 48, seed=layer)


def together(parts: Iterable[KnockedOut]) -> KnockedOut:
    """All posts, in order."""
    known = list(parts)
    order = torch.tensor([post for part in known for post in part.posts]).argsort()
    before = torch.cat([part.before for part in known])[order]
    after = zip(*(part.after for part in known), strict=True)
    return KnockedOut(range(len(order)), before, [torch.cat(each, 1)[:, order] for each in after])


def knocked_out(
    anatomy: Anatomy,
    removal: Removal,
    *,
    batch_size: int = 3,
    posts: NDArray[np.bool_] | None = None,
) -> KnockedOut:
    knockouts = [LayerKnockout(layer, autoencoder(layer), SETS, posts) for layer in LAYERS]
    return together(knock_out(anatomy, POSTS, knockouts, removal, batch_size=batch_size))


def by_hook(anatomy: Anatomy, ids: list[int], layer: int, removal: Removal) -> Tensor:
    """Logits `[set, label]` of one post by the whole model, with the formula written out densely.

    A copy of the post a set runs in one pass.
    """
    sae = autoencoder(layer)

    def replace(module: Any, inputs: Any, output: Any) -> Any:
        stream = block_output(output)
        first = 0 if removal.positions == "all" else len(ids) - 1
        changed = stream.clone()
        for number, latents in enumerate(SETS):
            h = stream[number, first:]
            norm = h.norm(dim=-1, keepdim=True)
            before = (h / norm - sae.b_dec) @ sae.w_enc.T + sae.b_enc
            kept = before >= before.topk(6, dim=-1).values[:, -1:]
            z = torch.where(kept & (before > 0), before, 0.0)
            if removal.replace == "reconstruction":
                h = (z @ sae.w_dec + sae.b_dec) * norm
            changed[number, first:] = h - (z[:, latents] @ sae.w_dec[latents]) * norm
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    handle = anatomy.blocks[layer].register_forward_hook(replace)
    try:
        model: Any = anatomy.model
        logits: Tensor = model(torch.tensor([ids] * len(SETS))).logits
    finally:
        handle.remove()
    return logits


@pytest.mark.parametrize("architecture", EACH_ARCHITECTURE)
def test_equal_to_hooks_on_the_whole_model(architecture: str) -> None:
    anatomy = tiny_classifier(architecture)
    model: Any = anatomy.model
    whole = torch.stack([model(torch.tensor([ids])).logits[0] for ids in POSTS])
    for removal in REMOVALS:
        found = knocked_out(anatomy, removal)
        assert torch.allclose(found.before, whole, atol=2e-4)
        for layer, after in zip(LAYERS, found.after, strict=True):
            expected = torch.stack([by_hook(anatomy, ids, layer, removal) for ids in POSTS], dim=1)
            assert torch.allclose(after, expected, atol=2e-4), (removal, layer)
            # The comparison is worth something only where knockouts change the logits.
            assert (expected[3] - whole).abs().max() > 0.05


def test_batches_do_not_matter() -> None:
    anatomy = tiny_classifier("llama")
    one, all_together = (knocked_out(anatomy, Removal(), batch_size=size) for size in (1, 4))
    assert torch.allclose(one.before, all_together.before, atol=1e-5)
    for first, second in zip(one.after, all_together.after, strict=True):
        assert torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda each: f"{each.replace}-{each.positions}")
def test_sets_are_removed_from_chosen_posts_alone(removal: Removal) -> None:
    anatomy = tiny_classifier("llama")
    everywhere = knocked_out(anatomy, removal)
    posts = np.array([[True] * 4, [False, True, True, False], [False] * 4, [True] * 4])
    found = knocked_out(anatomy, removal, posts=posts)
    for some, whole in zip(found.after, everywhere.after, strict=True):
        chosen = torch.where(torch.from_numpy(posts)[:, :, None], whole, everywhere.before)
        assert torch.allclose(some, chosen, atol=1e-5)


def test_how_many_sets_are_in_memory_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    anatomy = tiny_classifier("llama")
    at_once = knocked_out(anatomy, Removal())
    monkeypatch.setattr(module, "_SETS_AT_ONCE", 3)
    for first, second in zip(knocked_out(anatomy, Removal()).after, at_once.after, strict=True):
        assert torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("positions", ["all", "last"])
def test_nothing_removed_changes_no_bit(positions: Any) -> None:
    found = knocked_out(tiny_classifier("llama"), Removal(positions=positions))
    for after in found.after:
        assert torch.equal(after[0], found.before)
        assert not torch.equal(after[3], found.before)


def test_posts_in_which_nothing_fires_are_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    resume = Prefill.resume

    def counted(read: Prefill, layer: int, hidden: Tensor, **given: Any) -> Tensor:
        rows.append(len(hidden))
        return resume(read, layer, hidden, **given)

    monkeypatch.setattr(Prefill, "resume", counted)
    posts = planted_posts(0, 3)
    sets = [torch.tensor([axis]) for axis in (0, 1, 2)]
    knockout = LayerKnockout(1, perfect_sae(D_MODEL), sets)
    anatomy = planted_classifier()
    anatomy.embedding.weight[30:40] = -1.0
    list(knock_out(anatomy, posts, [knockout], Removal(), batch_size=8))
    # All posts as they are, for the check; then those with axis 0 removed.
    assert rows == [3, 3]


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda each: f"{each.replace}-{each.positions}")
@pytest.mark.parametrize("layer", [0, 3])
def test_a_label_is_lost_with_the_one_latent_that_carries_it(layer: int, removal: Removal) -> None:
    sets = [NOTHING, torch.tensor([1]), torch.tensor([2, 5, 9, D_MODEL + 1])]
    knockout = LayerKnockout(layer, perfect_sae(D_MODEL), sets)
    posts = planted_posts(1, 4)
    found = together(knock_out(planted_classifier(), posts, [knockout], removal, batch_size=3))
    assert found.before.argmax(dim=-1).tolist() == [1] * 4
    assert found.after[0].argmax(dim=-1).tolist() == [[1] * 4, [3] * 4, [1] * 4]


def half_sae() -> SparseAutoencoder:
    """Explains half of the first two axes, and nothing of the others."""
    sae = SparseAutoencoder(D_MODEL, 2, "relu", normalise="none")
    sae.w_enc.copy_(torch.eye(2, D_MODEL))
    sae.w_dec.copy_(0.5 * torch.eye(2, D_MODEL))
    return sae


def logits_of(stream: dict[int, float]) -> list[float]:
    """What the planted head says of a last token with these entries, after the final norm."""
    h = torch.zeros(D_MODEL)
    for axis, value in stream.items():
        h[axis] = value
    normed = h / (h.square().mean() + 1e-6).sqrt()
    return [*normed[:3].tolist(), float(normed[3] + 0.1 * normed[COMMON])]


def test_the_error_of_the_autoencoder_stays_or_goes() -> None:
    anatomy = planted_classifier()
    knockout = LayerKnockout(2, half_sae(), [NOTHING, torch.tensor([0])])
    posts = planted_posts(0, 1)
    found = knock_out(anatomy, posts, [knockout], Removal(), batch_size=1)
    kept = together(found).after[0][:, 0]
    assert kept[0].tolist() == pytest.approx(logits_of({0: STRENGTH, COMMON: 1.0}), abs=1e-4)
    assert kept[1].tolist() == pytest.approx(logits_of({0: STRENGTH / 2, COMMON: 1.0}), abs=1e-4)
    found = knock_out(anatomy, posts, [knockout], Removal("reconstruction"), batch_size=1)
    gone = together(found)
    assert gone.after[0][0, 0].tolist() == pytest.approx(logits_of({0: STRENGTH / 2}), abs=1e-4)
    assert gone.after[0][1, 0].tolist() == [0.0] * 4


def test_a_model_that_cannot_be_resumed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    resumed = module._resumed
    monkeypatch.setattr(module, "_resumed", lambda *given: resumed(*given) + 0.1)
    with pytest.raises(RuntimeError, match=r"resumed above layer 0.*knockouts cannot be trusted"):
        knocked_out(tiny_classifier("llama"), Removal())


def test_a_fault_that_a_short_number_format_hides_is_found_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    anatomy = tiny_classifier("llama")
    anatomy.model.to(torch.bfloat16)
    exact = module.check_in_float32(anatomy, POSTS, list(LAYERS))
    assert (exact.rows, exact.largest < 1e-3) == (min(4, len(POSTS)), True)
    assert anatomy.dtype == torch.bfloat16
    resumed = module._resumed
    monkeypatch.setattr(module, "_resumed", lambda *given: resumed(*given) + 0.01)
    with pytest.raises(RuntimeError, match=r"resumed above layer 0.*knockouts cannot be trusted"):
        module.check_in_float32(anatomy, POSTS, list(LAYERS))


def test_a_post_without_tokens_is_refused_and_no_post_gives_nothing() -> None:
    anatomy = tiny_classifier("llama")
    knockouts = [LayerKnockout(1, autoencoder(1), SETS)]
    with pytest.raises(StudyError, match="post 1 has no tokens"):
        next(knock_out(anatomy, [[5], []], knockouts, Removal(), batch_size=2))
    assert not list(knock_out(anatomy, [], knockouts, Removal(), batch_size=2))
