"""The vocabulary: every text comes back from its pieces, and rare characters are bytes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkd.data import vocab
from seqkd.data.normalization import normalize
from seqkd.data.vocab import Vocab
from seqkd.utils.errors import InputError


@pytest.fixture(scope="module")
def bytes_vocab(tmp_path_factory: pytest.TempPathFactory) -> Vocab:
    """Return a vocabulary of a short Persian and English text; all other characters are bytes."""
    texts = [f"the room has {number} doors می\u200cخواهم" for number in range(200)]
    return vocab.train(texts, tmp_path_factory.mktemp("vocab") / "joint.model", size=320, byte_fallback=True)


@given(text=st.text() | st.text("thermso 0123می\u200cخواهم²½…😀\u0301\u2581\u2047\u2585<>/", max_size=40))
def test_vocabulary_gives_every_text_back_in_its_normal_form(bytes_vocab: Vocab, text: str) -> None:
    ids = bytes_vocab.encode(text)
    assert bytes_vocab.decode(ids, text) == normalize(text)
    assert vocab.UNK not in ids


def test_vocabulary_gives_every_character_of_unicode_back(bytes_vocab: Vocab) -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    lines = ["a".join(characters[start : start + 64]) for start in range(0, len(characters), 64)]
    decoded = bytes_vocab.decode_all(bytes_vocab.encode_all(lines), lines)
    assert [line for line, text in zip(lines, decoded, strict=True) if text != normalize(line)] == []


def test_bytes_that_make_no_character_leave_nothing_in_the_text(bytes_vocab: Vocab) -> None:
    euro = bytes_vocab.encode("€")[1:]
    the = bytes_vocab.encode("the")
    assert [bytes_vocab.decode([*the, *part], "") for part in (euro, euro[:1], euro[1:])] == ["the€", "the", "the"]


def test_rare_characters_are_bytes_and_come_back(tmp_path: Path) -> None:
    texts = ["the cat sat on the mat"] * 3000 + ["кот 猫"]
    pieces = vocab.train(texts, tmp_path / "joint.model", size=290, byte_fallback=True)
    assert [pieces.decode(pieces.encode(text), text) for text in texts] == texts
    assert len(pieces.encode("кот")) == 1 + 6  # the space, and two bytes a letter


def test_a_few_lines_of_other_scripts_cost_the_rest_no_pieces(tmp_path: Path) -> None:
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "many", "dogs", "run", "over", "green", "hills"]
    clean = [" ".join(words[(3 * line + step) % len(words)] for step in range(12)) for line in range(2000)]
    stray = ["".join(chr(0x4E00 + 11 * line + step) for step in range(11)) for line in range(10)]  # 110 characters
    pieces = {}
    for name, texts in {"clean": clean, "stray": clean + stray}.items():
        learnt = vocab.train(texts, tmp_path / name, size=330, byte_fallback=True)
        pieces[name] = sum(map(len, learnt.encode_all(clean)))
    assert pieces["stray"] <= 1.02 * pieces["clean"]


def test_rare_characters_are_those_that_no_piece_writes(bytes_vocab: Vocab) -> None:
    assert bytes_vocab.rare_characters("the room\u0085has 10€ 😀😀 e\u0301") == ["€", "😀", "😀", "é"]
    assert bytes_vocab.rare_characters("the room has doors") == []


def test_size_below_the_bytes_is_refused_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"vocab.size is 60, .* are 2\d\d; set it well above .* byte_fallback to false"
    ):
        vocab.train(["the cat sat"] * 9, tmp_path / "joint.model", size=60, byte_fallback=True)


# Placeholders.


@pytest.fixture(scope="module")
def interface_vocab(tmp_path_factory: pytest.TempPathFactory) -> Vocab:
    """Return a vocabulary of a text with up to three placeholders in a line."""
    texts = ["Move {name} from {old} to {new}", "der Raum hat %s Türen", "the door is open"] * 50
    return vocab.train(texts, tmp_path_factory.mktemp("vocab") / "joint.model", size=320, byte_fallback=True)


@given(text=st.text() | st.lists(st.sampled_from([*"{}%s ()ae\x91\x92", "{a}", "{b}", "%s", "%d", "%%"])).map("".join))
def test_vocabulary_gives_placeholders_back(interface_vocab: Vocab, text: str) -> None:
    assert interface_vocab.decode(interface_vocab.encode(text), text) == normalize(text)


def test_vocabulary_reserves_as_many_pieces_as_a_line_has_different_placeholders(
    interface_vocab: Vocab, bytes_vocab: Vocab, tmp_path: Path
) -> None:
    assert (interface_vocab.placeholders, bytes_vocab.placeholders) == (3, 0)
    assert interface_vocab.size == 320
    assert not any("{" in piece.text or "%" in piece.text for piece in interface_vocab.pieces())
    many = [" ".join(f"{{{number}}}" for number in range(count)) + " doors" for count in range(12)]
    assert vocab.train(many, tmp_path / "joint.model", size=300, byte_fallback=True).placeholders == 9


def test_placeholders_make_no_rare_character_a_piece(tmp_path: Path) -> None:
    texts = ["the cat sat on the mat"] * 3000 + ["кот 猫", "{a}" * 300_000]
    pieces = vocab.train(texts, tmp_path / "joint.model", size=290, byte_fallback=True)
    assert {"t", "\x91"} <= pieces.characters
    assert not set("кот猫") & pieces.characters


def test_placeholder_is_one_piece_whatever_it_is_called(interface_vocab: Vocab) -> None:
    ids = interface_vocab.encode("the {name}(%s)")
    assert ids == interface_vocab.encode("the {another_one}({0})")
    pieces = interface_vocab.pieces()
    assert [pieces[id].text for id in ids] == ["\u2581the", "\u2581", "\x91", "<0x28>", "\x92", "<0x29>"]


def test_translation_has_the_numbers_of_its_source_and_gives_back_the_users_own(interface_vocab: Vocab) -> None:
    ids = interface_vocab.encode("{b} hat {a}", "{a} has {b}")
    assert [id for id in ids if id in (4, 5)] == [5, 4]
    assert interface_vocab.decode(ids, "%d has %s") == "%s hat %d"
    assert interface_vocab.decode(ids, "%d has it") == "hat %d"
    assert interface_vocab.decode_all([ids, ids], ["{x} has {y}", ""]) == ["{y} hat {x}", "hat"]


def test_placeholders_of_a_vocabulary_without_pieces_for_them_stay_text(bytes_vocab: Vocab) -> None:
    ids = bytes_vocab.encode("the {name}")
    assert ids == bytes_vocab.encode("the {name}", "{name}")
    assert bytes_vocab.decode(ids, "the {other}") == "the {name}"
    assert "{" in bytes_vocab.rare_characters("the {name}")


def test_rare_characters_of_a_placeholder_do_not_count(interface_vocab: Vocab) -> None:
    assert interface_vocab.rare_characters("the {größe} is €") == ["€"]


def test_sample_takes_at_most_so_many_texts_spread_over_all() -> None:
    texts = [str(number) for number in range(1000)]
    assert vocab.sample(texts, most=1000) == texts
    assert vocab.sample(texts, most=999) == texts[::2]
    assert vocab.sample(iter(texts), most=130) == texts[::8]
