"""The normal form of text. Every line that comes in takes it: of a corpus, to translate, of a hypothesis."""

import re
import unicodedata

# What shows nothing: Unicode's Default_Ignorable_Code_Point, private use aside.
_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_SEEN = re.compile(rf"[^\s\u2800{_IGNORABLE}]")
_FOREIGN = {0x2581: " "}  # sentencepiece writes a space so
# U+FFFD stands where a character was broken, also where a model wrote bytes that make none; so does a lone surrogate.
_BROKEN = dict.fromkeys((*range(0xD800, 0xE000), 0xFFFD), None)
_BYTE_ORDER_MARK = {0xFEFF: None}  # files put together have it inside
# C0 and C1 controls but those that Python counts as white space, which become spaces.
_CONTROLS = dict.fromkeys((code for code in (*range(0x20), *range(0x7F, 0xA0)) if not chr(code).isspace()), None)
_TABLE: dict[int, str | None] = {**_FOREIGN, **_BROKEN, **_CONTROLS, **_BYTE_ORDER_MARK}


def normalize(text: str) -> str:
    """Return the text in Unicode's NFC, on one line, with single spaces between words.

    White space of every kind becomes a space, U+2581 too. Other control characters, byte-order marks and broken
    characters go. A text that shows nothing, such as a soft hyphen alone, becomes empty. Nothing else changes: no
    compatibility folding, so 10² stays 10².
    """
    text = text.translate(_TABLE)  # before NFC: letter and accent can come together
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = " ".join(text.split())
    return text if _SEEN.search(text) else ""
