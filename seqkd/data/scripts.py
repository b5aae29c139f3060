"""The scripts of letters, such as LATIN, by the first words of their Unicode names."""

import unicodedata
from collections import Counter
from functools import cache

_EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH", "BOPOMOFO"}  # written together


def letters_by_script(text: str) -> Counter[str]:
    """Return how many letters of each script a text has. Kana, bopomofo and Han are one, CJK."""
    if text.isascii():
        return +Counter(LATIN=sum(map(str.isalpha, text)))
    counts = Counter(map(_script, text))
    del counts[""]
    return counts


@cache
def _script(character: str) -> str:
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "UNKNOWN").partition(" ")[0].partition("-")[0]
    return "CJK" if name in _EAST_ASIAN else name
