from glossogenesis.corpora.documents import split_of

TEXTS = [f"document {number}" for number in range(4000)]


def test_the_share_is_met_and_order_does_not_matter():
    held_out = {text for text in TEXTS if split_of(text, 0.1) == "held_out"}
    assert 320 < len(held_out) < 480
    assert held_out == {text for text in reversed(TEXTS) if split_of(text, 0.1) == "held_out"}


def test_a_larger_share_holds_out_the_same_and_more():
    small = {text for text in TEXTS if split_of(text, 0.1) == "held_out"}
    large = {text for text in TEXTS if split_of(text, 0.3) == "held_out"}
    assert small < large


def test_white_space_around_a_document_does_not_move_it():
    assert all(split_of(text, 0.5) == split_of(f"\n{text} \n", 0.5) for text in TEXTS[:200])


def test_splits_stay_what_they_are():
    # Corpora that exist would change with these.
    assert split_of("a", 0.8) == "held_out"
    assert split_of("a", 0.79) == "train"
