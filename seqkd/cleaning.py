"""Raw sentence pairs made fit to train on: tidied, filtered, split, without overlap; every drop counted by its cause."""

import hashlib
import html
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Annotated, NamedTuple

from pydantic import Field

from seqkd import corpus
from seqkd.config import Record
from seqkd.errors import InputError


class Line(NamedTuple):
    group: str  # what is split as a whole: a component, a catalogue, a source sentence
    source: str
    target: str


class Split(NamedTuple):
    train: list[Line]
    dev: list[Line]
    test: list[Line]


class Words(Record):
    least: Annotated[int, Field(ge=1)]
    most: Annotated[int, Field(ge=1)]


class Cleaning(Record):
    source_words: Words
    target_words: Words
    ratio: Annotated[float, Field(ge=1)]  # words of the longer side by those of the shorter, at most


TAG = re.compile(r"</?[A-Za-z][^<>]*>|\*\*|__(?=\w)|(?<=\w)__")
MARKUP = re.compile(r"https?:|www\.|[{}`\\|]|\[%|\[[^\]]*\]\(|%\(\w+\)|%[sdrif]\b|&[a-z]+;|<|>|://")
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")  # scripts without spaces
PLAIN = re.compile(r"[^\W\d_]{2,}(?:[-’'/][^\W\d_]+)*")


class _Marks(dict[int, str | None]):
    """str.translate table: punctuation, symbols and controls become spaces."""

    def __missing__(self, code: int) -> str:
        self[code] = kept = " " if unicodedata.category(chr(code))[0] in "PSCZ" else chr(code)
        return kept


_MARKS = _Marks()


def key(text: str) -> str:
    """What two texts share that differ in case, punctuation and spaces only."""
    return " ".join(text.casefold().translate(_MARKS).split()) or text


def tidy(text: str) -> str:
    """The text without tags and emphasis marks, entities resolved, in corpus.normal form."""
    return corpus.normal(TAG.sub(" ", html.unescape(text)))


def words(text: str) -> int:
    """The words of a text; two letters of a script that is written without spaces count as one."""
    unspaced = len(UNSPACED.findall(text))
    return len(UNSPACED.sub(" ", text).split()) + (unspaced + 1) // 2


def _prose(text: str) -> bool:
    """Whether at least half of a text's words are plain ones: no codes, values, lists of numbers."""
    tokens = text.split()
    plain = sum(bool(PLAIN.fullmatch(token.strip(".,;:!?()\"'„“”‚‘’«»…"))) for token in tokens)
    return bool(UNSPACED.search(text)) or 2 * plain >= len(tokens)


def cause(line: Line, limits: Cleaning) -> str | None:
    """Why a tidied pair is dropped; None: it stays."""
    source, target = words(line.source), words(line.target)
    if not line.source or not line.target:
        return "empty"
    if MARKUP.search(line.source) or MARKUP.search(line.target):
        return "address, template or code"
    if key(line.source) == key(line.target):
        return "not translated"
    if not limits.source_words.least <= source <= limits.source_words.most:
        return "source too short or too long"
    if not limits.target_words.least <= target <= limits.target_words.most:
        return "target too short or too long"
    if max(source, target) > limits.ratio * min(source, target):
        return "lengths too unequal"
    if not _prose(line.source) or not _prose(line.target):
        return "mostly values"
    return None


def clean(lines: Iterable[Line], limits: Cleaning) -> tuple[list[Line], Counter[str]]:
    """The tidied lines that stay, each pair once, and the number of dropped ones by cause."""
    kept: list[Line] = []
    drops: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for raw in lines:
        line = Line(raw.group, tidy(raw.source), tidy(raw.target))
        reason = cause(line, limits) or ("repeated" if line[1:] in seen else None)
        if reason:
            drops[reason] += 1
        else:
            seen.add(line[1:])
            kept.append(line)
    return kept, drops


def split(lines: list[Line], *, seed: int, dev: int, test: int) -> tuple[Split, Counter[str]]:
    """Whole groups held out, about dev and test lines; what train holds too is dropped from dev, test.

    A group's place follows from the seed and its name alone, and a group of more than a tenth of dev or test
    stays in train, so that many groups speak in each. Train is shuffled. Raises InputError for too few lines.
    """
    own = _own(lines)
    order = sorted(own, key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
    place: dict[str, str] = {}
    for part, wanted in (("test", test), ("dev", dev)):
        held = 0
        for group in order:
            if held < wanted and group not in place and 0 < own[group] <= max(1, wanted // 10):
                place[group] = part
                held += own[group]
        if held < wanted:
            raise InputError(
                f"The corpus is too small for {wanted} {part} lines ({held} found); ask for fewer in its recipe."
            )
    parts: dict[str, list[Line]] = {"train": [], "dev": [], "test": []}
    for line in lines:
        parts[place.get(line.group, "train")].append(line)
    random.Random(seed).shuffle(parts["train"])
    kept_test = unseen(parts["test"], parts["train"])
    kept_dev = unseen(parts["dev"], [*parts["train"], *kept_test])
    drops = Counter({"dev, seen in train or test": len(parts["dev"]) - len(kept_dev)})
    drops["test, seen in train"] = len(parts["test"]) - len(kept_test)
    return Split(parts["train"], kept_dev, kept_test), drops


def _own(lines: list[Line]) -> dict[str, int]:
    """For each group, its lines of which no other group holds the source or the target."""
    holders: dict[str, str | None] = {}  # a source or target: its only group, or None for several
    for line in lines:
        for text in ("s" + key(line.source), "t" + key(line.target)):
            holders[text] = line.group if holders.get(text, line.group) == line.group else None
    counts: dict[str, int] = defaultdict(int)
    for line in lines:
        counts[line.group] += bool(holders["s" + key(line.source)] and holders["t" + key(line.target)])
    return counts


def unseen(lines: Iterable[Line], others: Iterable[Line]) -> list[Line]:
    """The lines whose source and target no other line has, whatever the case and punctuation."""
    sources, targets = set(), set()
    for other in others:
        sources.add(key(other.source))
        targets.add(key(other.target))
    return [line for line in lines if key(line.source) not in sources and key(line.target) not in targets]
