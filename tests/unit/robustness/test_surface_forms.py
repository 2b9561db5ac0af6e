"""Surface forms: the piece of text that a token is a part of, however tokens cut it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossogenesis.robustness.cues import PostText, normalised, scripts_of


def post(*pieces: str | bytes) -> PostText:
    return PostText.of([piece.encode() if isinstance(piece, str) else piece for piece in pieces])


def surfaces(*pieces: str | bytes) -> list[str]:
    text = post(*pieces)
    return [text.surface(token) for token in range(len(pieces))]


def test_tokens_of_one_word_have_the_word_as_their_surface() -> None:
    assert surfaces("新", "しい", "カ", "メ", "ラを", "買う") == [
        "新",
        "しい",
        "カメラ",
        "カメラ",
        # Its first letter is that of the camera.
        "カメラ",
        "買",
    ]


def test_bytes_of_one_character_belong_to_the_whole_character() -> None:
    camera = "カメラ".encode()
    assert surfaces("の", camera[:1], camera[1:2], camera[2:5], camera[5:], "。") == [
        "の",
        *["カメラ"] * 4,
        "。",
    ]


@given(st.lists(st.integers(1, 20), max_size=6, unique=True))
def test_how_a_word_is_cut_into_tokens_does_not_matter(cuts: list[int]) -> None:
    text = "、デジカメ、".encode()
    ends = sorted({*cuts, len(text)} - set(range(len(text) + 1, 99)))
    pieces = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    start = 0
    for piece, surface in zip(pieces, surfaces(*pieces), strict=True):
        # Bytes 3 to 14 are the word; a token of the first comma alone is that comma.
        assert surface == ("デジカメ" if start < 15 and start + len(piece) > 3 else "、")
        start += len(piece)


@pytest.mark.parametrize(
    ("text", "index", "surface"),
    [
        ("東京の人々は", 3, "人々"),
        ("二〇二六年", 0, "二〇二六年"),
        ("このらーめんを", 3, "このらーめんを"),
        ("いいラーメン屋", 3, "ラーメン"),
        ("a ｶﾞｿﾘﾝ b", 3, "ガソリン"),
        ("買うiPhone15を", 4, "iphone15"),
        ("買うＡＢＣを", 3, "abc"),
        ("Cafe\u0301 Noir", 2, "café"),
        ("ещё Кот и", 5, "кот"),
        ("カ・メ", 1, "・"),
        ("よい👍", 2, "👍"),
    ],
)
def test_a_surface_is_a_run_of_one_script(text: str, index: int, surface: str) -> None:
    assert surfaces(*text)[index] == surface


def test_spaces_and_punctuation_in_front_of_a_word_do_not_count() -> None:
    assert surfaces("a", " red", ' "cat', "!?", " !", " ", "\n") == [
        "a",
        "red",
        "cat",
        "!",
        "!",
        " ",
        "\n",
    ]


def test_tokens_without_bytes_and_cut_characters() -> None:
    cut = "カメラ".encode()[:-1]
    assert surfaces("", cut[:6], cut[6:], "") == ["", "カメ", "�", ""]
    # Two bytes of a character that goes on differently: each stands alone.
    assert surfaces(b"\xe3\x82", "メラ")[1] == "メラ"
    assert surfaces() == []


def test_normalised() -> None:
    assert normalised("Ｃａｍｅｒａ") == normalised("CAMERA") == "camera"
    assert normalised("ｶﾒﾗ") == "カメラ"


def test_scripts() -> None:
    assert scripts_of("猫ねこネコneko7、") == (
        "CJK",
        *["HIRAGANA"] * 2,
        *["KATAKANA"] * 2,
        *["LATIN"] * 5,
        "",
    )
