"""Words, also of scripts that are written without spaces."""

import pytest

from seqkd.data.words import count_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two three", 3),
        ("สวัสดี", 3),
        ("日本語 text", 3),
        ("我喜欢猫。", 3),
        ("ສະບາຍດີ", 4),
        ("ខ្ញុំ", 3),
        ("𠀀𠀁", 1),
        ("한국어 문장", 2),
        ("", 0),
    ],
)
def test_two_letters_of_an_unspaced_script_count_as_one_word(text: str, words: int) -> None:
    assert count_words(text) == words
