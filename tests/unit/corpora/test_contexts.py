import numpy as np
import pytest

from glossogenesis.corpora.contexts import (
    RECORD,
    ContextFiller,
    ContextShape,
    ContextSpool,
    interleaved,
    merged,
)

PAD = 99


def documents(*lengths, first=1, ends=False):
    """Records of documents whose token ids count up; with `ends`, each one's last is special."""
    records = np.zeros(sum(lengths), dtype=RECORD)
    records["token_ids"] = np.arange(first, first + sum(lengths))
    records["documents"] = np.repeat(np.arange(len(lengths)), lengths)
    records["positions"] = np.concatenate([np.arange(length) for length in lengths])
    records["kept"] = True
    if ends:
        records["kept"][np.cumsum(lengths) - 1] = False
    return records, np.array(lengths)


def filled(folder, fill, budget, *batches, context=4, drop_first=False):
    shape = ContextShape(context, fill, drop_first, PAD)
    filler = ContextFiller(shape, budget, ContextSpool(folder, context))
    for batch in batches:
        filler.add(*batch)
    filler.finish()
    filler.spool.rewind()
    return filler, filler.spool.read(filler.spool.contexts)


def test_packed_documents_follow_each_other_across_contexts_and_batches(tmp_path):
    batches = documents(3, 3), documents(5, 1, first=7)
    filler, contexts = filled(tmp_path, "packed", 12, *batches)
    assert contexts["token_ids"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    assert contexts["documents"].tolist() == [[0, 0, 0, 1], [1, 1, 2, 2], [2, 2, 2, 3]]
    assert contexts["positions"].tolist() == [[0, 1, 2, 0], [1, 2, 0, 1], [2, 3, 4, 0]]
    assert (filler.tokens, filler.documents, filler.is_full) == (12, 4, True)


def test_the_last_context_ends_where_the_budget_does(tmp_path):
    filler, contexts = filled(tmp_path, "packed", 6, documents(4, 4, 4, 4))
    assert contexts["token_ids"].tolist() == [[1, 2, 3, 4], [5, 6, PAD, PAD]]
    assert contexts["documents"].tolist() == [[0, 0, 0, 0], [1, 1, -1, -1]]
    assert contexts["kept"].tolist() == [[True] * 4, [True, True, False, False]]
    assert (filler.tokens, filler.documents) == (6, 2)


def test_only_kept_tokens_count(tmp_path):
    batch = documents(3, 3, 3, 3, ends=True)
    filler, contexts = filled(tmp_path, "packed", 5, batch, drop_first=True)
    # Of 1 2 3 4 | 5 6 7 8 | 9 10 11 12, ends are 3 6 9 12 and first tokens are 1 5 9.
    assert contexts["token_ids"][contexts["kept"]].tolist() == [2, 4, 7, 8, 10]
    assert contexts["token_ids"][2].tolist() == [9, 10, PAD, PAD]
    assert filler.tokens == 5


def test_text_that_runs_out_is_padded_and_leaves_the_budget_unmet(tmp_path):
    filler, contexts = filled(tmp_path, "packed", 100, documents(4, 2))
    assert contexts["token_ids"].tolist() == [[1, 2, 3, 4], [5, 6, PAD, PAD]]
    assert (filler.tokens, filler.is_full) == (6, False)


def test_padded_documents_have_a_context_each(tmp_path):
    filler, contexts = filled(tmp_path, "padded", 7, documents(2, 4), documents(3, first=7))
    assert contexts["token_ids"].tolist() == [[1, 2, PAD, PAD], [3, 4, 5, 6], [7, PAD, PAD, PAD]]
    assert contexts["documents"].tolist() == [[0, 0, -1, -1], [1, 1, 1, 1], [2, -1, -1, -1]]
    assert contexts["positions"].tolist() == [[0, 1, 0, 0], [0, 1, 2, 3], [0, 0, 0, 0]]
    assert (filler.tokens, filler.documents) == (7, 3)


def test_padded_documents_with_nothing_to_keep_are_left_out(tmp_path):
    filler, contexts = filled(tmp_path, "padded", 3, documents(1, 3, 0, 2), drop_first=True)
    assert contexts["token_ids"].tolist() == [[2, 3, 4, PAD], [5, 6, PAD, PAD]]
    assert contexts["documents"].tolist() == [[0, 0, 0, -1], [1, 1, -1, -1]]
    assert filler.documents == 2


@pytest.mark.parametrize("fill", ["packed", "padded"])
def test_batches_do_not_matter(tmp_path, fill):
    lengths = np.random.default_rng(0).integers(1, 5, size=60).tolist()
    whole, _ = documents(*lengths, ends=True)
    _, expected = filled(tmp_path, fill, 70, (whole.copy(), np.array(lengths)), drop_first=True)
    batches = []
    for start in range(0, 60, 7):
        part = lengths[start : start + 7]
        batches.append(documents(*part, first=sum(lengths[:start]) + 1, ends=True))
    _, contexts = filled(tmp_path, fill, 70, *batches, drop_first=True)
    assert np.array_equal(contexts, expected)


def test_every_beginning_of_the_order_has_the_proportions_of_the_whole():
    counts = [600, 300, 100]
    order = interleaved(counts)
    assert np.bincount(order).tolist() == counts
    for length in (10, 50, 333, 900):
        got = np.bincount(order[:length], minlength=3)
        assert np.abs(got - np.array(counts) * length / 1000).max() < 1.5
    assert interleaved([2, 2]).tolist() == [0, 1, 0, 1]


def test_merged_contexts_keep_their_order_and_get_numbers_of_their_own(tmp_path):
    fillers = [
        filled(tmp_path, "packed", budget, documents(*[3] * 8, first=first))[0]
        for budget, first in ((16, 1), (6, 101))
    ]
    blocks = list(
        merged([filler.spool for filler in fillers], [filler.documents for filler in fillers], 4)
    )
    joined = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    assert [len(block["kept"]) for block in blocks] == [4, 2]
    assert joined["token_ids"][:, 0].tolist() == [1, 101, 5, 9, 105, 13]
    assert joined["languages"][4].tolist() == [1, 1, 255, 255]
    # The first language has documents 0 to 5, so the second's begin at 6.
    assert joined["documents"][1].tolist() == [6, 6, 6, 7]
    assert joined["documents"][4].tolist() == [7, 7, -1, -1]
