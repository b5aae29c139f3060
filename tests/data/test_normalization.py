"""The normal form, and that the vocabulary gives every text in it back."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkd.data import vocab
from seqkd.data.normalization import normalize
from seqkd.data.vocab import Vocab

WHITE_SPACE = "\t\v\f\r\n\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\u2581"
NOTHING = "\u00ad\u034f\u061c\u200b\u200d\u200e\u2060\u3164\ufe0f\ufeff\ufffd\u2800\U000e0020\0\x7f"


@pytest.mark.parametrize("sign", WHITE_SPACE)
def test_white_space_of_every_kind_is_one_space(sign: str) -> None:
    assert normalize(f"{sign}connection to the{sign}{sign} device{sign}") == "connection to the device"


@pytest.mark.parametrize("word", ["b\u1ec7nh", "be\u0323\u0302nh", "b\u00ea\u0323nh", "be\u0302\u0323nh"])
def test_canonically_equal_spellings_have_one_form(word: str) -> None:
    assert normalize(word) == "b\u1ec7nh"


@pytest.mark.parametrize(
    "text", ["10\u00b2 m", "3\u00bd min", "wait\u2026", "Word\u2122", "\uff0c\u3002", "\ufb01n", "\u216b", "①"]
)
def test_compatibility_signs_stay(text: str) -> None:
    assert normalize(text) == text


@pytest.mark.parametrize("sign", NOTHING)
def test_text_that_shows_nothing_is_empty(sign: str) -> None:
    assert normalize(sign) == normalize(f" {sign}\t{sign} ") == ""


@pytest.mark.parametrize("text", ["می\u200cخواهم", "క్\u200cష", "👩\u200d👧", "❤\ufe0f", "a\u00adb", "x\ufffdy"])
def test_joiners_inside_a_text_stay(text: str) -> None:
    assert normalize(text) == text


def test_control_characters_go_before_an_accent_is_composed() -> None:
    assert normalize("e\0\u0301t\x07é\x9b") == "été"


def test_lone_surrogate_becomes_the_replacement_character() -> None:
    assert normalize("a\ud800b") == "a\ufffdb"


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zs", "Zl", "Mn", "Lo"])))
def test_normal_form_stays_as_it_is(text: str) -> None:
    normal = normalize(text)
    assert normalize(normal) == normal == normal.strip()
    assert unicodedata.is_normalized("NFC", normal)


@pytest.fixture(scope="module")
def bytes_vocab(tmp_path_factory: pytest.TempPathFactory) -> Vocab:
    """Return a vocabulary of a short Persian and English text; all other characters are bytes."""
    texts = [f"the room has {number} doors می\u200cخواهم" for number in range(200)]
    return vocab.train(texts, tmp_path_factory.mktemp("vocab") / "joint.model", size=320, byte_fallback=True)


@given(text=st.text() | st.text("thermso 0123می\u200cخواهم²½…😀\u0301\u2581\u2047\u2585<>/", max_size=40))
def test_vocabulary_gives_every_text_back_in_its_normal_form(bytes_vocab: Vocab, text: str) -> None:
    ids = bytes_vocab.encode(text)
    assert bytes_vocab.decode(ids) == normalize(text)
    assert vocab.UNK not in ids


def test_vocabulary_gives_every_character_of_unicode_back(bytes_vocab: Vocab) -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    lines = ["a".join(characters[start : start + 64]) for start in range(0, len(characters), 64)]
    decoded = bytes_vocab.decode_all(bytes_vocab.encode_all(lines))
    assert [line for line, text in zip(lines, decoded, strict=True) if text != normalize(line)] == []


def test_rare_characters_are_bytes_and_come_back(tmp_path: Path) -> None:
    texts = ["the cat sat on the mat"] * 300 + ["кот 猫"]
    pieces = vocab.train(texts, tmp_path / "joint.model", size=290, character_coverage=0.999, byte_fallback=True)
    assert [pieces.decode(pieces.encode(text)) for text in texts] == texts
    assert len(pieces.encode("кот")) == 1 + 6  # the space, and two bytes a letter
