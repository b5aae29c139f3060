"""The normal form of text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkd.data.normalization import normalize

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


@pytest.mark.parametrize("text", ["می\u200cخواهم", "క్\u200cష", "👩\u200d👧", "❤\ufe0f", "a\u00adb"])
def test_joiners_inside_a_text_stay(text: str) -> None:
    assert normalize(text) == text


def test_control_characters_go_before_an_accent_is_composed() -> None:
    assert normalize("e\0\u0301t\x07é\x9b") == "été"


def test_byte_order_mark_goes_wherever_it_stands() -> None:
    assert normalize("\ufeffa dog\ufeff ran") == "a dog ran"


def test_broken_characters_go() -> None:
    assert normalize("a\ud800b \ufffd c\ufffd") == "ab c"


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zs", "Zl", "Mn", "Lo"])))
def test_normal_form_stays_as_it_is(text: str) -> None:
    normal = normalize(text)
    assert normalize(normal) == normal == normal.strip()
    assert unicodedata.is_normalized("NFC", normal)
