"""Windows of residual streams against transformers' own hidden states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from glossogenesis.corpora.tokenised import TokenisedCorpus
from glossogenesis.exceptions import StudyError
from glossogenesis.models.anatomy import Anatomy
from glossogenesis.models.residuals import Window, hook_name, residual_windows
from support.tiny_corpus import CONTEXT, tiny_corpus
from support.tiny_models import D_MODEL, EACH_ARCHITECTURE, tiny_anatomy

LAYERS = (0, 1, 2, 3)
WINDOW = 30


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> TokenisedCorpus:
    return tiny_corpus(tmp_path_factory.mktemp("padded"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> TokenisedCorpus:
    return tiny_corpus(tmp_path_factory.mktemp("packed"), fill="packed")


def windows(anatomy: Anatomy, corpus: TokenisedCorpus, split: str, **changes: Any) -> list[Window]:
    options: dict[str, Any] = {
        "layers": LAYERS,
        "window": WINDOW,
        "seed": 0,
        "batch_size": 4,
        "dtype": "float32",
        "not_finite": "stop",
    }
    return list(residual_windows(anatomy, corpus, split, **(options | changes)))


def expected_states(anatomy: Anatomy, corpus: TokenisedCorpus, split: str) -> Tensor:
    """`[context, position, layer, d_model]` by transformers, one context at a time, unpadded."""
    (block,) = list_of_blocks(corpus, split)
    states = torch.zeros(len(block.kept), CONTEXT, anatomy.n_layers, D_MODEL)
    last: list[Tensor] = []
    # transformers gives the last block's output after the norm; this is what it was before.
    handle = anatomy.final_norm.register_forward_pre_hook(lambda _, inputs: last.append(inputs[0]))
    for context, ids in enumerate(block.token_ids):
        length = int((block.documents[context] >= 0).sum())
        hidden = anatomy.model(ids[None, :length].long(), output_hidden_states=True).hidden_states
        states[context, :length] = torch.stack([*hidden[1:-1], last[-1]], dim=2)[0]
    handle.remove()
    return states


def list_of_blocks(corpus: TokenisedCorpus, split: str) -> list[Any]:
    from glossogenesis.models.batches import context_windows

    return list(context_windows(corpus.blocks(split, 1000), 10**9))


@pytest.mark.parametrize("fill", ["padded", "packed"])
@pytest.mark.parametrize("architecture", EACH_ARCHITECTURE)
def test_equals_hidden_states(
    architecture: str, fill: str, padded: TokenisedCorpus, packed: TokenisedCorpus
) -> None:
    anatomy = tiny_anatomy(architecture)
    corpus = padded if fill == "padded" else packed
    for split in ("train", "held_out"):
        expected = expected_states(anatomy, corpus, split)
        for window in windows(anatomy, corpus, split):
            contexts, columns = window.ids["contexts"].long(), window.ids["columns"].long()
            for layer in LAYERS:
                torch.testing.assert_close(
                    window.activations[layer],
                    expected[contexts, columns, layer],
                    rtol=1e-4,
                    atol=1e-4,
                )


def test_every_kept_token_once_with_its_ids(padded: TokenisedCorpus) -> None:
    for split in ("train", "held_out"):
        (block,) = list_of_blocks(padded, split)
        found = windows(tiny_anatomy("llama"), padded, split, window=15)
        assert len(found) > 1
        assert [window.number for window in found] == list(range(len(found)))
        ids = {name: torch.cat([w.ids[name] for w in found]).long() for name in found[0].ids}
        places = list(zip(ids["contexts"].tolist(), ids["columns"].tolist(), strict=True))
        assert sorted(places) == [tuple(place) for place in block.kept.nonzero().tolist()]
        for name in ("token_ids", "documents", "positions", "languages", "token_languages"):
            of_corpus = getattr(block, name).long()[ids["contexts"], ids["columns"]]
            assert torch.equal(ids[name], of_corpus)


def test_windows_hold_whole_contexts_and_no_more_than_asked(padded: TokenisedCorpus) -> None:
    seen: set[int] = set()
    for window in windows(tiny_anatomy("llama"), padded, "train"):
        contexts = set(window.ids["contexts"].tolist())
        assert len(window) <= WINDOW
        assert not contexts & seen
        seen |= contexts


def test_a_context_longer_than_the_window_is_a_window_of_its_own(packed: TokenisedCorpus) -> None:
    found = windows(tiny_anatomy("llama"), packed, "held_out", window=3)
    assert [len(window) for window in found] == [CONTEXT - 1] * 7


def test_train_is_shuffled_inside_windows_and_held_out_is_not(packed: TokenisedCorpus) -> None:
    anatomy = tiny_anatomy("llama")

    def places(split: str, **changes: Any) -> list[list[int]]:
        return [
            (CONTEXT * window.ids["contexts"] + window.ids["columns"]).tolist()
            for window in windows(anatomy, packed, split, **changes)
        ]

    held_out, train = places("held_out"), places("train")
    assert held_out == [sorted(window) for window in held_out]
    assert all(window != sorted(window) for window in train)
    assert train == places("train")
    assert train != places("train", seed=1)
    assert [sorted(w) for w in train] == [sorted(w) for w in places("train", seed=1)]


def test_batch_size_moves_no_row(padded: TokenisedCorpus) -> None:
    anatomy = tiny_anatomy("gemma2")
    one, many = (windows(anatomy, padded, "train", batch_size=size) for size in (1, 100))
    for first, second in zip(one, many, strict=True):
        assert torch.equal(first.ids["columns"], second.ids["columns"])
        torch.testing.assert_close(
            first.activations[3], second.activations[3], rtol=1e-4, atol=1e-4
        )


def test_skipped_windows_change_none_of_the_others(padded: TokenisedCorpus) -> None:
    anatomy = tiny_anatomy("llama")
    everything = windows(anatomy, padded, "train")
    some = windows(anatomy, padded, "train", skip={0, 2})
    assert [w.number for w in some] == [w.number for w in everything if w.number not in (0, 2)]
    assert torch.equal(some[0].activations[3], everything[1].activations[3])


def test_runs_no_layer_after_the_last_wanted_and_no_head(packed: TokenisedCorpus) -> None:
    anatomy = tiny_anatomy("llama")
    calls: list[str] = []
    parts = {f"block {layer}": block for layer, block in enumerate(anatomy.blocks)}
    for name, module in {**parts, "norm": anatomy.final_norm, "head": anatomy.head}.items():
        assert module is not None
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    found = windows(anatomy, packed, "held_out", layers=[2, 0], batch_size=100, window=10**6)
    assert calls == ["block 0", "block 1", "block 2"]
    assert sorted(found[0].activations) == [0, 2]
    assert len(anatomy.blocks[0]._forward_hooks) == 1


def test_stored_in_bfloat16(packed: TokenisedCorpus) -> None:
    anatomy = tiny_anatomy("llama")
    exact = windows(anatomy, packed, "train")[0].activations[1]
    rounded = windows(anatomy, packed, "train", dtype="bfloat16")[0].activations[1]
    assert torch.equal(rounded, exact.bfloat16())


def test_activations_can_be_trained_on(packed: TokenisedCorpus) -> None:
    weight = torch.ones(D_MODEL, requires_grad=True)
    rows = windows(tiny_anatomy("llama"), packed, "train")[0].activations[1]
    (rows * weight).sum().backward()
    assert weight.grad is not None


def break_token(anatomy: Anatomy, token_id: int, layer: int, value: float) -> None:
    """From a layer on, every occurrence of a token has one activation that is not finite."""
    seen: list[Tensor] = []
    anatomy.embedding.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))

    def spoil(module: Any, inputs: Any, output: Any) -> Any:
        states = output if isinstance(output, Tensor) else output[0]
        states[..., 5] = states[..., 5].masked_fill(seen[-1] == token_id, value)
        return output

    anatomy.blocks[layer].register_forward_hook(spoil)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_stops_at_activations_that_are_not_finite(packed: TokenisedCorpus, value: float) -> None:
    anatomy = tiny_anatomy("llama")
    (block,) = list_of_blocks(packed, "train")
    context = 3
    break_token(anatomy, int(block.token_ids[context, 4]), layer=2, value=value)
    with pytest.raises(StudyError) as error:
        windows(anatomy, packed, "train", described_as="demo step0750")
    message = str(error.value)
    assert "demo step0750, train split: activations of layer 2 are NaN or infinite" in message
    assert "features.activations.not_finite: drop" in message


def test_drops_a_token_from_all_layers_and_counts_it(packed: TokenisedCorpus) -> None:
    whole = windows(tiny_anatomy("llama"), packed, "train", window=10**6)[0]
    anatomy = tiny_anatomy("llama")
    token_id = int(whole.ids["token_ids"][7])
    # The last layer, so that attention carries it to no other token.
    break_token(anatomy, token_id, layer=3, value=float("nan"))
    window = windows(anatomy, packed, "train", window=10**6, not_finite="drop")[0]
    kept = whole.ids["token_ids"] != token_id
    assert window.dropped_rows == int((~kept).sum()) > 0
    for name, ids in whole.ids.items():
        assert torch.equal(window.ids[name], ids[kept])
    for layer in LAYERS:
        assert torch.equal(window.activations[layer], whole.activations[layer][kept])


def test_a_layer_that_the_model_lacks(packed: TokenisedCorpus) -> None:
    with pytest.raises(StudyError, match=r"the model: has no layer 4, only 0 to 3; fix"):
        windows(tiny_anatomy("llama"), packed, "train", layers=[0, 4])


@pytest.mark.parametrize(
    ("architecture", "name"),
    [("llama", "model.layers.3"), ("gpt2", "transformer.h.3"), ("gpt_neox", "gpt_neox.layers.3")],
)
def test_hook_name_is_what_the_model_calls_the_block(architecture: str, name: str) -> None:
    anatomy = tiny_anatomy(architecture)
    assert hook_name(anatomy, 3) == name
    assert anatomy.model.get_submodule(name) is anatomy.blocks[3]


def test_token_ids_that_the_model_does_not_embed(packed: TokenisedCorpus) -> None:
    anatomy = tiny_anatomy("llama", vocab_size=30)
    with pytest.raises(StudyError, match=r"the model embeds only 30 tokens; its tokenizer belongs"):
        windows(anatomy, packed, "train")
