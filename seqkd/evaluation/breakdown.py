"""Kinds of test lines: by length, by the rarest word, by what must be copied. Scores by kind show where loss is."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from seqkd.data.words import UNSPACED_RANGES

LENGTHS = (5, 10, 20)  # words of the source: the last one of each kind
FREQUENCIES = (0, 2, 10, 100)  # lines of the training text that hold the source's rarest word
# {name}, %s, %(name)d, $name, <b>, &amp;, and what wants to be copied as it is: an address, a path of a file
PLACEHOLDER = re.compile(r"\{[^{}]{0,99}\}|%\(?\w{0,99}\)?[sd]\b|\$\w|</?\w[^<>]{0,99}>|&\w{1,9};|\w://\w|\w@\w")
DIGITS = re.compile(r"\d+")
TO_COPY = ("a placeholder", "a number", "neither")
WORD = re.compile(rf"[{UNSPACED_RANGES}]|[^\W{UNSPACED_RANGES}]+(?:[-'’]\w+)*")


class Kind(NamedTuple):
    """One kind of lines."""

    feature: str
    name: str
    rows: list[int]


def kinds(sources: Sequence[str], train_sources: Iterable[str]) -> list[Kind]:
    """Return every kind that has a line, in order: each line has one kind of each feature."""
    lengths = [_interval(len(words(source)), LENGTHS) for source in sources]
    frequencies = [_interval(count, FREQUENCIES) for count in rarest_frequencies(sources, train_sources)]
    features = {
        "words in the source": (lengths, _interval_names(1, LENGTHS)),
        "lines of the training text with the rarest word": (frequencies, _interval_names(0, FREQUENCIES)),
        "in the source": (list(map(_to_copy, sources)), TO_COPY),
    }
    found = [
        Kind(feature, name, [row for row, own in enumerate(numbers) if own == number])
        for feature, (numbers, names) in features.items()
        for number, name in enumerate(names)
    ]
    return [kind for kind in found if kind.rows]


def _to_copy(source: str) -> int:
    """Return which of TO_COPY a source holds."""
    return next((n for n, pattern in enumerate((PLACEHOLDER, DIGITS)) if pattern.search(source)), len(TO_COPY) - 1)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation; in scripts without spaces the characters."""
    return WORD.findall(text.lower())


def rarest_frequencies(sources: Sequence[str], train_sources: Iterable[str]) -> list[int]:
    """Return for each source in how many training lines its rarest word stands; 0 where it has a new word, or none."""
    wanted = {word for source in sources for word in words(source)}
    counts: Counter[str] = Counter()
    for line in train_sources:
        counts.update(wanted.intersection(words(line)))
    return [min((counts[word] for word in words(source)), default=0) for source in sources]


def _interval(value: int, ends: Sequence[int]) -> int:
    return next((number for number, end in enumerate(ends) if value <= end), len(ends))


def _interval_names(first: int, ends: Sequence[int]) -> list[str]:
    starts = [first, *(end + 1 for end in ends)]
    closed = [f"{start}" if start == end else f"{start} to {end}" for start, end in zip(starts, ends, strict=False)]
    return [*closed, f"more than {ends[-1]}"]
