from dataclasses import replace

import numpy as np
import pytest
import torch

from glossogenesis.corpora.contexts import CorpusHeader, write_tokenised
from glossogenesis.corpora.tokenised import TokenisedCorpus, text_of
from glossogenesis.exceptions import StudyError
from glossogenesis.storage.files import read_json, write_json
from glossogenesis.storage.provenance import Provenance

CONTEXT = 4


def block(first, contexts, language):
    """Contexts of one language whose token ids count up from `first`; the last is padded."""
    shape = (contexts, CONTEXT)
    ids = np.arange(first, first + contexts * CONTEXT).reshape(shape)
    documents = ids // CONTEXT
    kept = np.ones(shape, dtype=bool)
    documents[-1, -1], kept[-1, -1] = -1, False
    return {
        "token_ids": ids,
        "documents": documents,
        "positions": np.tile(np.arange(CONTEXT), (contexts, 1)),
        "languages": np.where(documents >= 0, language, 255),
        "token_languages": np.full(shape, language),
        "kept": kept,
    }


@pytest.fixture
def written(tmp_path):
    """Seven contexts to train on, in shards of two, and one held out."""
    header = CorpusHeader(
        corpus="tiny",
        languages=("en", "ja"),
        known_by_script=("en", "ja"),
        context=CONTEXT,
        fill="packed",
        drop_first=False,
        tokenizer_digest="abc",
        pad_id=0,
        end_id=None,
        sources={},
    )
    blocks = {"train": [block(0, 3, 0), block(12, 4, 1)], "held_out": [block(0, 1, 1)]}
    words = [b"a", "語".encode()[:1], "語".encode()[1:]]
    provenance = Provenance("corpus", "test", {}, {}, "code")
    return write_tokenised(tmp_path, header, blocks, words, provenance, bytes_of_a_shard=120)


def test_a_corpus_is_read_as_it_was_written(written):
    corpus = TokenisedCorpus.read(written.folder / "manifest.json")
    assert corpus == written
    assert corpus.facts("train").contexts == 7
    assert corpus.facts("train").tokens == {"en": 11, "ja": 15}
    assert corpus.facts("train").documents == 7
    assert corpus.facts("held_out").tokens == {"en": 0, "ja": 3}
    assert [shard.contexts for shard in corpus.facts("train").shards] == [2, 2, 2, 1]


@pytest.mark.parametrize("contexts", [1, 2, 3, 100])
def test_blocks_are_in_order_whatever_their_size(written, contexts):
    blocks = list(written.blocks("train", contexts))
    assert torch.cat([block.token_ids for block in blocks]).flatten().tolist() == list(range(28))
    assert [block.first for block in blocks] == np.cumsum(
        [0, *(len(block.kept) for block in blocks[:-1])]
    ).tolist()
    assert all(len(block.kept) <= contexts for block in blocks)
    assert blocks[0].token_ids.dtype == blocks[0].documents.dtype == torch.int32
    assert blocks[0].languages.dtype == blocks[0].token_languages.dtype == torch.uint8
    assert blocks[0].kept.dtype == torch.bool


def test_characters_of_several_tokens_are_whole_in_text(written):
    assert written.vocabulary()[0] == "a"
    assert "�" in written.vocabulary()[1]
    assert text_of([0, 1, 2, 0], written.token_bytes()) == "a語a"


def test_equal_corpora_are_equal_bytes_and_replace_what_was_there(written):
    before = {path.name: path.read_bytes() for path in written.folder.iterdir()}
    (written.folder / "train_00009.safetensors").write_bytes(b"of an earlier, larger corpus")
    header = CorpusHeader(
        **{name: getattr(written, name) for name in CorpusHeader.__dataclass_fields__}
    )
    blocks = {"train": [block(0, 3, 0), block(12, 4, 1)], "held_out": [block(0, 1, 1)]}
    provenance = Provenance("corpus", "test", {}, {}, "code")
    words = written.token_bytes()
    write_tokenised(written.folder, header, blocks, words, provenance, bytes_of_a_shard=120)
    assert {path.name: path.read_bytes() for path in written.folder.iterdir()} == before


def test_missing_and_truncated_shards_are_named_at_once(written):
    manifest = written.folder / "manifest.json"
    shard = written.folder / "train_00001.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(StudyError, match=r"train_00001.*bytes long.*--forcerun prepare_corpus"):
        TokenisedCorpus.read(manifest)
    shard.unlink()
    with pytest.raises(StudyError, match=r"train_00001.*missing"):
        TokenisedCorpus.read(manifest)


def test_damaged_posts_name_the_rule_that_makes_them(written):
    replace(written, provenance={"kind": "tokenised_posts"}).write()
    (written.folder / "train_00001.safetensors").unlink()
    with pytest.raises(StudyError, match=r"train_00001.*missing.*--forcerun tokenise_posts"):
        TokenisedCorpus.read(written.folder / "manifest.json")


def test_a_flipped_byte_is_found_when_its_shard_is_read(written):
    shard = written.folder / "train_00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    corpus = TokenisedCorpus.read(written.folder / "manifest.json")
    blocks = corpus.blocks("train", 2)
    next(blocks)
    with pytest.raises(StudyError, match=r"train_00001.*not the bytes"):
        next(blocks)


@pytest.mark.parametrize("content", ["[]", "{}", '{"splits": 1}', "{"])
def test_a_damaged_manifest_is_named(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(StudyError, match=r"manifest\.json"):
        TokenisedCorpus.read(path)


def test_a_manifest_of_other_fields_is_refused(written):
    path = written.folder / "manifest.json"
    write_json(path, {**read_json(path), "surplus": 1})
    with pytest.raises(StudyError, match="not a tokenised corpus"):
        TokenisedCorpus.read(path)
