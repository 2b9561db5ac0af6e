"""Where spellings stand among tokens, and which features are strongest there."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from glossogenesis.corpora.contexts import CorpusTokenizer
from glossogenesis.corpora.posts import Spelling
from glossogenesis.exceptions import StudyError
from glossogenesis.robustness.spellings import (
    LocatedSpelling,
    locate_spellings,
    states_of_spellings,
    strongest_features,
)
from support.planted_features import identity_sae
from support.tiny_classifiers import tiny_classifier
from support.tiny_models import EACH_ARCHITECTURE, random_tokens
from support.tiny_tokenizers import byte_level, with_ends

TEXTS = ["卵を買う", "赤いたまごだ", "PCを使う、毎日使う"]
VARIANTS = ["卵", "たまご", "PC"]


def spelling(variant: str, concept: str = "egg") -> Spelling:
    return Spelling(concept, "kanji", variant, f"{variant}。")


def tokenizer(size: int = 300) -> CorpusTokenizer:
    trained = with_ends(byte_level(TEXTS * 4, size), "<s> $A </s>")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=trained, bos_token="<s>", eos_token="</s>")
    return CorpusTokenizer.of(wrapped, "0", "folder")


@pytest.mark.parametrize("size", [258, 300, 330])
@pytest.mark.parametrize("add_special_tokens", [False, True])
def test_a_spelling_has_the_tokens_that_hold_its_characters(
    size: int, add_special_tokens: bool
) -> None:
    spellings = [spelling(variant) for variant in VARIANTS]
    made = tokenizer(size)
    located = locate_spellings(spellings, TEXTS, made, add_special_tokens=add_special_tokens)
    for text, variant, found in zip(TEXTS, VARIANTS, located, strict=True):
        # Bytes before the spelling and in it, counted token by token.
        held = [len(made.backend.id_to_token(token)) for token in found.token_ids]
        if add_special_tokens:
            held[0] = 0
        before = len(text[: text.index(variant)].encode())
        end = before + len(variant.encode())
        starts = [sum(held[:position]) for position in range(len(held))]
        expected = [
            position
            for position, start in enumerate(starts)
            if held[position] and start < end and start + held[position] > before
        ]
        assert list(found.positions) == expected
        assert len(found.token_ids) == expected[-1] + 1
    whole = locate_spellings(
        spellings, TEXTS, made, add_special_tokens=add_special_tokens, span="sentence"
    )
    for text, found in zip(TEXTS, whole, strict=True):
        # Every token that stands for text, and no special one.
        held = "".join(made.backend.id_to_token(found.token_ids[each]) for each in found.positions)
        assert len(held) == len(text.encode())
        assert found.positions[0] == int(add_special_tokens)


def test_spellings_that_cannot_be_located() -> None:
    def locate(text: str, made: CorpusTokenizer) -> None:
        locate_spellings([spelling("卵")], [text], made, add_special_tokens=True)

    with pytest.raises(StudyError, match="concept 'egg', spelling '卵': '卵' stands 2 times"):
        locate("卵と卵", tokenizer())
    latin = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    latin.normalizer = normalizers.Replace("卵", "")
    made = CorpusTokenizer.of(PreTrainedTokenizerFast(tokenizer_object=latin), "0", "folder")
    with pytest.raises(StudyError, match="concept 'egg', spelling '卵': no token of the tokenizer"):
        locate("卵a", made)


@pytest.mark.parametrize("architecture", EACH_ARCHITECTURE)
def test_states_are_those_of_the_whole_text_alone(architecture: str) -> None:
    anatomy = tiny_classifier(architecture)
    texts = random_tokens([9, 4, 12, 7])
    positions = [(2, 3), (0,), (9, 10, 11), (5,)]
    located = [
        LocatedSpelling(tuple(ids[: last[-1] + 1]), last)
        for ids, last in zip(texts, positions, strict=True)
    ]
    layers = (0, 2)
    states = states_of_spellings(anatomy, located, layers, batch_size=3, described_as="it")
    assert states.spellings.tolist() == [0, 0, 1, 2, 2, 2, 3]
    row = 0
    for ids, kept in zip(texts, positions, strict=True):
        with torch.inference_mode():
            hidden = anatomy.base(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for layer in layers:
            torch.testing.assert_close(
                states.of_layer[layer][row : row + len(kept)],
                hidden[layer + 1][0, list(kept)],
                atol=1e-4,
                rtol=1e-4,
            )
        row += len(kept)


def test_states_that_are_not_finite_are_refused() -> None:
    anatomy = tiny_classifier("llama")
    anatomy.embedding.weight[5] = torch.nan
    with pytest.raises(StudyError, match=r"classifier of m c: .* NaN or infinite"):
        states_of_spellings(
            anatomy,
            [LocatedSpelling((4, 5), (1,))],
            (0,),
            batch_size=1,
            described_as="classifier of m c",
        )


def test_features_are_ranked_by_their_maximum_over_the_tokens() -> None:
    # With an identity encoder, what fires is what is written here.
    states = torch.tensor(
        [
            [5.0, 0.0, 1.0, -3.0, 0.0, 2.0],  # two tokens of the first spelling
            [0.0, 4.0, 7.0, -1.0, 0.0, 2.0],
            [0.0, 3.0, 0.0, 3.0, 0.0, 3.0],  # a tie: the lower number first
            [-1.0, -1.0, 0.0, 0.0, 0.0, 0.0],  # nothing fires
        ]
    )
    spellings = torch.tensor([0, 0, 1, 2])
    found = strongest_features(identity_sae(6, architecture="relu"), states, spellings, 3, k=4)
    assert [features.tolist() for features in found.of_spelling] == [[2, 0, 1, 5], [1, 3, 5], []]
    assert found.n_active == 5  # 4 never fires
    assert found.l0 == pytest.approx((3 + 3 + 3 + 0) / 4)
    fewer = strongest_features(identity_sae(6, architecture="relu"), states, spellings, 3, k=2)
    assert [features.tolist() for features in fewer.of_spelling] == [[2, 0], [1, 3], []]
    assert fewer.n_active == 5


def test_where_nothing_fires_there_are_no_features() -> None:
    states, spellings = -torch.ones(2, 6), torch.tensor([0, 1])
    found = strongest_features(identity_sae(6, architecture="relu"), states, spellings, 2, k=3)
    assert [len(features) for features in found.of_spelling] == [0, 0]
    assert (found.n_active, found.l0) == (0, 0.0)
