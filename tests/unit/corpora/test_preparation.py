import errno
from collections import defaultdict
from itertools import count

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from glossogenesis.corpora.contexts import ContextSpool, CorpusTokenizer
from glossogenesis.corpora.documents import split_of
from glossogenesis.corpora.preparation import CorpusPlan, prepare_corpus
from glossogenesis.corpora.sources import LocalText, local_paths
from glossogenesis.corpora.tokenised import BLOCK_TENSORS, TokenisedCorpus, text_of
from glossogenesis.exceptions import StudyError
from glossogenesis.storage.provenance import Provenance
from glossogenesis.study.inputs import CorpusSettings
from support.tiny_tokenizers import byte_level, with_ends

WORDS = {"en": ["cat", "dog", "house", "runs"], "ja": ["猫", "いぬ", "家", "走る"]}
PROVENANCE = Provenance("corpus", "test", {}, {}, "code")


def lines_of(language, number):
    """Short documents, each other than the next, numbered so that none is like another."""
    words = WORDS[language]
    return [f"{words[n % 4]} {words[n // 4 % 4]} {n}" for n in range(number)]


@pytest.fixture
def settings(tmp_path):
    """Settings of a corpus of 400 lines a language; keywords change them."""
    for language in WORDS:
        path = tmp_path / f"text.{language}"
        path.write_text("\n".join(lines_of(language, 400)), encoding="utf-8")

    def of(**changes):
        text = {
            "kind": "files",
            "documents": "lines",
            "files": {language: [str(tmp_path / f"text.{language}")] for language in WORDS},
        }
        written = {"train_tokens": 900, "held_out_tokens": 150, "context": 16}
        return CorpusSettings.model_validate(
            {"text": text, "held_out_share": 0.2, **written, **changes}
        )

    return of


@pytest.fixture
def prepared(tmp_path):
    """Prepare a corpus into a new folder."""
    backend = with_ends(byte_level(lines_of("en", 50), size=300), "<s> $A")
    tokenizer = CorpusTokenizer.of(
        PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>"),
        "digest",
        tmp_path,
    )
    numbers = count()

    def prepare(settings, *, add_special_tokens=False):
        plan = CorpusPlan("tiny", settings, {"en": "Latin", "ja": "Japanese"}, add_special_tokens)
        folder = tmp_path / f"corpus_{next(numbers)}"
        return prepare_corpus(plan, LocalText(settings.text), tokenizer, folder, PROVENANCE)

    return prepare


def whole(corpus, split):
    blocks = list(corpus.blocks(split, 1000))
    return {name: torch.cat([getattr(block, name) for block in blocks]) for name in BLOCK_TENSORS}


def texts_in(corpus, split):
    """Texts of a split's documents, special tokens left out, by document."""
    tensors = whole(corpus, split)
    special = {corpus.end_id, corpus.pad_id}
    found = defaultdict(dict)
    for context in range(len(tensors["kept"])):
        columns = zip(*(tensors[name][context].tolist() for name in BLOCK_TENSORS), strict=True)
        for token, document, position, *_ in columns:
            if document >= 0 and token not in special:
                found[document][position] = token
    token_bytes = corpus.token_bytes()
    return {
        document: text_of([tokens[position] for position in sorted(tokens)], token_bytes)
        for document, tokens in sorted(found.items())
    }


@pytest.mark.parametrize("fill", ["packed", "padded"])
def test_budgets_are_met_exactly_and_languages_balanced(settings, prepared, fill):
    corpus = prepared(settings(fill=fill))
    assert corpus == TokenisedCorpus.read(corpus.folder / "manifest.json")
    for split, budget in (("train", 900), ("held_out", 150)):
        assert corpus.facts(split).tokens == {"en": budget, "ja": budget}
        tensors = whole(corpus, split)
        for number in range(2):
            of_language = tensors["kept"] & (tensors["languages"] == number)
            assert int(of_language.sum()) == budget
        assert not tensors["kept"][:, 0].any()
        assert not tensors["kept"][tensors["documents"] < 0].any()


def test_languages_take_turns_by_their_budgets(settings, prepared):
    corpus = prepared(settings(train_tokens={"en": 300, "ja": 900}))
    languages = whole(corpus, "train")["languages"][:, 0].tolist()
    assert languages.count(1) == pytest.approx(3 * languages.count(0), rel=0.25)
    first_half = languages[: len(languages) // 2]
    assert first_half.count(0) == pytest.approx(languages.count(0) / 2, abs=1)


@pytest.mark.parametrize("fill", ["packed", "padded"])
def test_documents_are_those_of_the_files_in_the_split_of_their_hash(settings, prepared, fill):
    corpus = prepared(settings(fill=fill, context=64))
    known = {language: lines_of(language, 400) for language in WORDS}
    for split in ("train", "held_out"):
        texts = texts_in(corpus, split)
        assert sorted(texts) == list(range(corpus.facts(split).documents))
        expected = [
            line
            for language in WORDS
            for line in known[language]
            if split_of(line, 0.2) == split and line in texts.values()
        ]
        # All but the last of each language, which the budget may cut, are whole and in order.
        assert len(expected) >= len(texts) - 2
        assert [text for text in texts.values() if text in expected] == expected


def test_tokens_have_the_language_of_their_script(settings, prepared):
    corpus = prepared(settings())
    assert corpus.known_by_script == ("en", "ja")
    tensors = whole(corpus, "train")
    kept = tensors["kept"]
    assert torch.equal(tensors["token_languages"][kept], tensors["languages"][kept])
    assert (tensors["token_languages"][tensors["token_ids"] == corpus.end_id] == 255).all()


def test_packed_documents_are_separated_by_the_end_of_document(settings, prepared):
    corpus = prepared(settings())
    tensors = whole(corpus, "train")
    starts = (tensors["positions"] == 0) & (tensors["documents"] >= 0)
    before = tensors["token_ids"][:, :-1][starts[:, 1:]]
    assert len(before) > 20
    assert (before == corpus.end_id).all()


def test_padded_documents_have_the_special_tokens_that_the_tokenizer_adds(settings, prepared):
    corpus = prepared(settings(fill="padded", drop_first=False), add_special_tokens=True)
    tensors = whole(corpus, "train")
    assert len(tensors["token_ids"][:, 0].unique()) == 1
    assert not tensors["kept"][:, 0].any()
    assert (tensors["token_ids"] != corpus.end_id)[tensors["documents"] >= 0].all()


def test_equal_text_gives_equal_bytes(settings, prepared):
    folders = [prepared(settings()).folder for _ in range(2)]
    names = sorted(path.name for path in folders[0].iterdir())
    assert names == [
        "held_out_00000.safetensors",
        "manifest.json",
        "train_00000.safetensors",
        "vocabulary.parquet",
    ]
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_tokens": {"en": 900, "ja": 10**6}},
            r"corpora.tiny: the text of language 'ja' has [\d,]+ tokens for `train_tokens`, which "
            r"asks for 1,000,000; add files to `text.files.ja`, lower `train_tokens`, or lower",
        ),
        (
            {"held_out_tokens": 9000},
            r"language 'en' has [\d,]+ tokens for `held_out_tokens`.* or raise `held_out_share`",
        ),
    ],
)
def test_too_few_tokens_are_said_before_anything_is_written(
    tmp_path, settings, prepared, changes, message
):
    with pytest.raises(StudyError, match=message):
        prepared(settings(**changes))
    assert list((tmp_path / "corpus_0").iterdir()) == []


def test_a_full_disk_is_one_line(settings, prepared, monkeypatch):
    def fail(self, contexts):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ContextSpool, "append", fail)
    with pytest.raises(StudyError, match=r"the disk is full\. Free some space.*`held_out_tokens`"):
        prepared(settings())


def test_missing_files_are_named_before_anything_is_read(settings, tmp_path):
    (tmp_path / "text.ja").unlink()
    with pytest.raises(StudyError, match=r"text.ja: no such text file"):
        LocalText(settings().text)


def test_the_users_own_files_are_inputs(settings, tmp_path):
    text = LocalText(settings().text)
    assert list(local_paths(text).values()) == [tmp_path / "text.en", tmp_path / "text.ja"]
    assert text.source("en") == {"files": [str(tmp_path / "text.en")]}
