"""Placeholders of interface texts, such as {name}, {{count}}, {total, number}, %s, %(count)d, %1$s and %name%.

A model reads and writes each as one sign, numbered by the first occurrence in the source. So a translation has the
user's own ones, whatever they are called.
"""

import re
from collections.abc import Sequence
from itertools import zip_longest

# The sign of each number is a control character: the normal form removes these, so no text can hold one.
SIGNS = "".join(map(chr, range(0x91, 0x9A)))
_LETTERS = r"\u00c0-\u04ff"  # besides ASCII: of the alphabets whose words are not written together
_NAME = rf"[\w{_LETTERS}][\w{_LETTERS}.\[\]-]*"
_FORMAT = r"(?:![rsa])?(?::[\w+<>=^#,.%:/-]*)?"  # Python's
_ICU = r", ?(?:number|date|time|spellout|ordinal|duration)(?:, ?[^{},]{1,40})?"
_DIGITS = r"[-+#0]*\d{0,3}(?:\.\d{1,2})?"
# Code stays text, such as {{ states('x') }} and {n, plural, ...}. So do percentages: 100 % sicher, 50%ige, % d, %50.
# The exported page reads the same expression, so it holds only what Python and JavaScript understand alike.
PATTERN = re.compile(
    rf"\{{(?:\{{ ?[\w.-]+(?:, ?\w+)? ?\}}|(?:{_NAME})?(?:{_FORMAT}|{_ICU}))\}}"
    rf"|%(?:(?<!%%)\([^()%{{}}]{{1,99}}\){_DIGITS}[diouxXeEfFgGcrsa]"
    rf"|(?<![\d%]%)(?:\d{{1,2}}\$)?{_DIGITS}(?:hh?|ll?|[zjt])?[diuxXfgcrs@](?![A-Za-z{_LETTERS}])"
    r"|(?<![\w%]%)[A-Za-z_][\w.]+%(?!\w))",
    re.ASCII,
)


def find(text: str) -> list[str]:
    """Return the different placeholders of a text in its normal form, in the order of their first occurrence."""
    return list(dict.fromkeys(_find_all(text)))


def _find_all(text: str) -> list[str]:
    return PATTERN.findall(text) if "{" in text or "%" in text else []  # most texts have none, which is seen at once


def differ(source: str, target: str) -> bool:
    """Return whether a translation has other placeholders than its source, or one of them more or less often."""
    return sorted(_find_all(source)) != sorted(_find_all(target))


def mask(text: str, placeholders: Sequence[str]) -> str:
    """Return a text in its normal form with signs in place of placeholders; those without a sign stay as they are."""
    signs = dict(zip(placeholders, SIGNS, strict=False))
    return PATTERN.sub(lambda found: signs.get(found[0], found[0]), text) if signs else text


def restore(text: str, placeholders: Sequence[str]) -> str:
    """Return the text with placeholders in place of their signs; the sign of none of them goes."""
    return text.translate(dict(zip_longest(map(ord, SIGNS), placeholders[: len(SIGNS)])))
