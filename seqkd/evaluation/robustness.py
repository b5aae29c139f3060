"""What a score hides: faults that a reader sees at once, such as a changed number or a word said over and over."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import NamedTuple

from seqkd.data import placeholders
from seqkd.data.scripts import letters_by_script
from seqkd.evaluation.breakdown import DIGITS

FAULTS = {
    "repeated": "a phrase stands twice in a row, which the source does not do",
    "copied": "the output is the source",
    "numbers": "the output's numbers are not those of the source",
    "placeholders": "the output's placeholders, such as {name}, are not those of the source",
    "empty": "no output for a source",
    "at_limit": "the output is as long as the search allows, so its end is missing",
    "script": "letters of a script that neither the references nor the source use",
}
MAX_PHRASE, SHORT = 4, 3  # words of a repeated phrase; letters of a word that may stand twice
STUTTER = re.compile(r"(\S{2,10}?)\1{3}")  # within a word: nanananana
COMMON = 0.01  # share of the letters of the references from which a script is the language's own


class HardLine(NamedTuple):
    """A line that is hard to translate, and why."""

    kind: str
    text: str


def hard_lines(language: str) -> list[HardLine]:
    """Return the hard lines of a source language, such as en; none where nobody has written any yet."""
    text = resources.files("seqkd.evaluation").joinpath("hard_lines.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.split("\n")[1:-1]]
    return [HardLine(kind, line) for own, kind, line in rows if own == re.split(r"[-_]", language.lower())[0]]


def faults(source: str, output: str, *, at_limit: bool = False, scripts: frozenset[str]) -> list[str]:
    """Return the names of the faults of one output, a part of FAULTS.

    at_limit: whether the output is as long as the search allows. scripts: those of the target language.
    """
    found = {
        "repeated": repeats(output) and not repeats(source),
        "copied": output.strip() == source.strip() and any(map(str.isalpha, output)),
        "numbers": Counter(DIGITS.findall(source)) != Counter(DIGITS.findall(output)),
        "placeholders": placeholders.differ(source, output),
        "empty": not output.strip() and bool(source.strip()),
        "at_limit": at_limit,
        "script": not set(letters_by_script(output)) <= scripts | set(letters_by_script(source)),
    }
    return [name for name in FAULTS if found[name]]


def repeats(text: str) -> bool:
    """Return whether a phrase of up to MAX_PHRASE words stands twice in a row, or part of a word four times.

    A word of up to SHORT letters must stand three times: many languages have clauses such as German "die die".
    """
    words = text.split()
    ends = [word.rstrip(".,;:!?)") for word in words]  # "the door the door." is a repetition
    for size in range(1, MAX_PHRASE + 1):
        for start in range(len(words) - 2 * size + 1):
            phrase = words[start : start + size]
            times = 3 if size == 1 and len(phrase[0]) <= SHORT else 2
            end = start + times * size
            if [*words[start : end - 1], *ends[end - 1 : end]] == phrase * times:
                return True
    return STUTTER.search(text) is not None


def common_scripts(references: Iterable[str]) -> frozenset[str]:
    """Return the scripts that hold a share of at least COMMON of the letters."""
    counts = letters_by_script("".join(references))
    return frozenset(script for script, count in counts.items() if count >= COMMON * counts.total())


def count_faults(lines: Iterable[Sequence[str]]) -> dict[str, int]:
    """Return how many lines have each fault."""
    counts = Counter(name for line in lines for name in line)
    return {name: counts[name] for name in FAULTS}
