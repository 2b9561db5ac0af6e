"""Reference mode of component patching against sums by hand and transformers itself."""

from __future__ import annotations

import pytest
import torch

from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.robustness.components.fast import capture_components, run_components
from glossogenesis.robustness.components.rows import ComponentRows, ComponentValues, Mode
from support.tiny_classifiers import LENGTHS, random_rows, tiny_classifier
from support.tiny_models import D_MODEL, EACH_ARCHITECTURE, random_tokens

PROMPTS = random_tokens(LENGTHS)


@pytest.fixture(params=EACH_ARCHITECTURE)
def anatomy(request: pytest.FixtureRequest) -> Anatomy:
    return tiny_classifier(request.param)


def test_unpatched_logits_are_the_models_own(anatomy: Anatomy) -> None:
    """One prompt at a time, without padding."""
    expected = torch.cat([anatomy.model(torch.tensor([ids])).logits for ids in PROMPTS])
    values, logits = capture_components(anatomy, PROMPTS, batch_size=4, mode="reference")
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    rows = random_rows(anatomy, len(PROMPTS), len(PROMPTS))
    rows.replaced[:] = False
    rows.embedding[:] = False
    unpatched = run_components(anatomy, PROMPTS, rows, values, mode="reference", batch_size=4)
    torch.testing.assert_close(unpatched, expected[rows.prompts], rtol=1e-4, atol=1e-4)


def test_embedding_and_outputs_add_up(anatomy: Anatomy) -> None:
    """With all replaced, the last position is the sum of what was put there."""
    generator = torch.Generator().manual_seed(2)
    values = ComponentValues(
        outputs=torch.randn(1, anatomy.n_layers, 2, D_MODEL, generator=generator),
        embeddings=torch.randn(1, D_MODEL, generator=generator),
    )
    rows = ComponentRows(
        prompts=torch.arange(len(PROMPTS)),
        sources=torch.zeros(len(PROMPTS), dtype=torch.int64),
        replaced=torch.ones(len(PROMPTS), anatomy.n_layers, 2, dtype=torch.bool),
        embedding=torch.ones(len(PROMPTS), dtype=torch.bool),
    )
    expected = anatomy.logits(values.embeddings[0] + values.outputs.sum(dim=(0, 1, 2)))
    for mode in ("fast", "reference"):
        logits = run_components(anatomy, PROMPTS, rows, values, mode=mode, batch_size=4)
        torch.testing.assert_close(
            logits, expected.expand(len(PROMPTS), -1), rtol=1e-4, atol=1e-4, msg=mode
        )


def test_a_block_by_hand() -> None:
    """One block of Llama: an MLP reads the attention that was put in place; its own does not."""
    anatomy = tiny_classifier("llama", num_hidden_layers=1)
    clean, corrupted = random_tokens([6, 9])
    values, _ = capture_components(anatomy, [clean, corrupted], batch_size=1, mode="reference")
    of_clean, own = values.outputs[:, 0]
    embedding = values.embeddings[1]
    block = anatomy.blocks[0]

    middle = embedding + of_clean[0]
    attention_patched = middle + block.mlp(block.post_attention_layernorm(middle))
    mlp_patched = embedding + own[0] + of_clean[1]
    rows = ComponentRows(
        prompts=torch.tensor([1, 1]),
        sources=torch.tensor([0, 0]),
        replaced=torch.tensor([[[True, False]], [[False, True]]]),
        embedding=torch.tensor([False, False]),
    )
    for mode in ("fast", "reference"):
        logits = run_components(anatomy, [clean, corrupted], rows, values, mode=mode, batch_size=2)
        torch.testing.assert_close(logits[0], anatomy.logits(attention_patched))
        torch.testing.assert_close(logits[1], anatomy.logits(mlp_patched))


def test_all_positions() -> None:
    """Replacing the last block's outputs at earlier positions changes no answer; the first's do."""
    anatomy = tiny_classifier("llama")
    values, _ = capture_components(anatomy, PROMPTS, batch_size=4)
    replaced = torch.zeros(2, anatomy.n_layers, 2, dtype=torch.bool)
    replaced[0, -1] = True
    replaced[1, 0] = True
    rows = ComponentRows(
        prompts=torch.tensor([0, 0]),
        sources=torch.tensor([1, 1]),
        replaced=replaced,
        embedding=torch.tensor([False, False]),
    )
    last, everywhere = (
        run_components(
            anatomy, PROMPTS, rows, values, mode="reference", positions=positions, batch_size=4
        )
        for positions in ("last", "all")
    )
    torch.testing.assert_close(everywhere[0], last[0], rtol=1e-5, atol=1e-5)
    assert (everywhere[1] - last[1]).abs().max() > 0.05


def test_embedding_at_all_positions_makes_tokens_alike() -> None:
    anatomy = tiny_classifier("llama")
    values, _ = capture_components(anatomy, PROMPTS, batch_size=4)
    token = PROMPTS[1][-1]
    rows = ComponentRows(
        prompts=torch.tensor([0]),
        sources=torch.tensor([1]),
        replaced=torch.zeros(1, anatomy.n_layers, 2, dtype=torch.bool),
        embedding=torch.tensor([True]),
    )
    logits = run_components(
        anatomy, PROMPTS, rows, values, mode="reference", positions="all", batch_size=4
    )
    expected = anatomy.model(torch.tensor([[token] * len(PROMPTS[0])])).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_all_positions_need_reference_mode() -> None:
    anatomy = tiny_classifier("llama")
    values, _ = capture_components(anatomy, PROMPTS, batch_size=4)
    rows = random_rows(anatomy, len(PROMPTS), len(PROMPTS))
    with pytest.raises(ValueError, match="needs mode="):
        run_components(anatomy, PROMPTS, rows, values, mode="fast", positions="all", batch_size=4)


@pytest.mark.parametrize("mode", ["fast", "reference"])
def test_prompts_that_cannot_be_classified(mode: Mode) -> None:
    anatomy = tiny_classifier("llama")
    with pytest.raises(StudyError, match=r"prompt 1 ends on token 0.*padding token"):
        capture_components(anatomy, [[5], [5, 0]], batch_size=4, mode=mode)
    with pytest.raises(StudyError, match="prompt 0 has no token"):
        capture_components(anatomy, [[], [5, 0]], batch_size=4, mode=mode)


def test_classifier_without_a_padding_token() -> None:
    anatomy = tiny_classifier("llama")
    anatomy.config.pad_token_id = None
    _, logits = capture_components(anatomy, PROMPTS, batch_size=4)
    _, one_by_one = capture_components(anatomy, PROMPTS, batch_size=1, mode="reference")
    torch.testing.assert_close(logits, one_by_one, rtol=1e-4, atol=1e-4)
    with pytest.raises(StudyError, match="no `pad_token_id`"):
        capture_components(anatomy, PROMPTS, batch_size=4, mode="reference")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": torch.tensor([6])}, r"names a prompt that is not in 0\.\.5"),
        ({"sources": torch.tensor([-1])}, r"names a source that is not in 0\.\.5"),
        ({"replaced": torch.ones(1, 3, 2, dtype=torch.bool)}, "for a model of 4 layers"),
    ],
)
def test_rows_that_do_not_fit(change: dict[str, torch.Tensor], message: str) -> None:
    anatomy = tiny_classifier("llama")
    values, _ = capture_components(anatomy, PROMPTS, batch_size=4)
    rows = random_rows(anatomy, len(PROMPTS), len(PROMPTS), n_rows=1)
    with pytest.raises(ValueError, match=message):
        run_components(
            anatomy,
            PROMPTS,
            ComponentRows(**vars(rows) | change),
            values,
            mode="fast",
            batch_size=4,
        )
