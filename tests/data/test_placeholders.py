"""Placeholders: which parts of a text they are, and that they come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkd.data import placeholders
from seqkd.data.normalization import normalize

ANY = ["{name}", "{0}", "{}", "{price:.2f}", "{item[0]}", "{{count}}", "{{ user.name }}", "{n, number}", "{größe}"]
ANY += ["{day, date, short}", "%s", "%d", "%.2f", "%-10s", "%lu", "%@", "%1$s", "%(count)d", "%(a b)s", "%count%"]
ORDINARY = ["100 % sicher", "100%sicher", "50%ige", "% d", "%50 indirim", "%5'i", "a 5%-10% rise", "100%", "%%s"]
ORDINARY += ["{", "} and {", "{a b}", "{...}", "{'a': 1}", "{{ states('x') }}", "{n, plural, one {# a} other {# b}}"]
ORDINARY += ["50%s", "%sGiB", "%title %message", "30%rF", "$name", "<name>", "a @b", ""]
texts = st.text() | st.lists(st.sampled_from([*ANY, *ORDINARY, *"{}%$ ().: \x91\x99", "s", "d", "ab"])).map("".join)


@pytest.mark.parametrize("placeholder", ANY)
def test_placeholder_is_found_whole_wherever_it_stands(placeholder: str) -> None:
    for before, after in (("", ""), ("(", ")"), ("Open ", ", now"), ("日", "日"), ("", "%%")):
        text = before + placeholder + after
        assert placeholders.find(text) == [placeholder], text


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_and_code_hold_no_placeholder(text: str) -> None:
    assert placeholders.find(text) == []
    assert placeholders.mask(text, ["{a}"]) == text


def test_mask_numbers_placeholders_by_their_first_occurrence_in_the_source() -> None:
    found = placeholders.find("{b} of {a}{b} at %s%%")
    assert found == ["{b}", "{a}", "%s"]
    assert placeholders.mask("{b} of {a}{b} at %s%%", found) == "\x91 of \x92\x91 at \x93%%"
    assert placeholders.mask("%s: {a} ({c})", found) == "\x93: \x92 ({c})"


def test_mask_leaves_placeholders_beyond_the_ninth_as_they_are() -> None:
    text = "".join(f"{{{number}}}" for number in range(11))
    masked = placeholders.mask(text, placeholders.find(text))
    assert masked == f"{placeholders.SIGNS}{{9}}{{10}}"
    assert len(placeholders.SIGNS) == 9


def test_restore_drops_a_number_that_the_source_has_not() -> None:
    assert placeholders.restore("a\x92 b \x91", ["{x}"]) == "a b {x}"
    assert placeholders.restore("\x99\x91", list("abcdefghijk")) == "ia"


@given(text=texts)
def test_restored_text_is_the_text(text: str) -> None:
    text = normalize(text)
    found = placeholders.find(text)
    assert placeholders.restore(placeholders.mask(text, found), found) == text
    assert normalize(text) == text


@given(source=texts, target=texts)
def test_translation_comes_back_whatever_its_source_holds(source: str, target: str) -> None:
    source, target = normalize(source), normalize(target)
    found = placeholders.find(source)
    assert placeholders.restore(placeholders.mask(target, found), found) == target


def test_normal_form_removes_every_sign_so_that_no_text_holds_one() -> None:
    assert normalize(f"a{placeholders.SIGNS}b") == "ab"


@pytest.mark.parametrize(
    ("source", "target", "differ"),
    [
        ("{a} of {b}", "{b} von {a}", False),
        ("{a} of {b}", "{b} von {b}", True),
        ("{a}", "{a} {a}", True),
        ("{a}", "%s", True),
        ("50 %", "50%", False),
    ],
)
def test_pairs_differ_where_a_placeholder_stands_more_often_on_one_side(source: str, target: str, differ: bool) -> None:
    assert placeholders.differ(source, target) is differ


def test_long_lines_of_broken_placeholders_take_no_time() -> None:
    for part in ("{", "%", "{a", "%a", "{a:", "%(", "{a, number, ", "%1", "{{ a", "%a.", "{a!r:"):
        assert placeholders.find(part * 20_000) == []
