"""Raw sentence pairs made fit to train on: tidied, filtered, split, no overlap; every drop counted by its cause."""

import hashlib
import html
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from seqkd.config.schema import Positive, Record
from seqkd.data import bitext
from seqkd.utils.errors import InputError
from seqkd.utils.progress import Progress

SHOW_PROGRESS_FROM = 200_000  # pairs from which their cleaning is shown


class Line(NamedTuple):
    group: str  # what is split as a whole: a component, a catalogue, a source sentence
    source: str
    target: str


class Split(NamedTuple):
    train: list[Line]
    dev: list[Line]
    test: list[Line]


class Cleaned(NamedTuple):
    parts: Split
    drops: Counter[str]  # lines by the cause of their drop
    origin: dict[str, object]  # where the text comes from, for the record


class WordLimits(Record):
    least: Positive
    most: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.most:
            raise ValueError("must have a least that is no larger than its most")
        return self


class Cleaning(Record):
    source_words: WordLimits
    target_words: WordLimits
    ratio: Annotated[float, Field(ge=1)]  # words of the longer side by those of the shorter, at most
    numbered: Positive  # pairs that differ in nothing but their numbers: so many of them stay


TAG = re.compile(r"</?[A-Za-z][^<>]*>")
BREAK = re.compile(r"</?(?:br|p|li|ul|ol|div|h\d|tr|td|table)\b[^<>]*>", re.IGNORECASE)
MARK = re.compile(r"\*\*|(?<!\w)__(?=\w)|(?<=\w)__(?!\w)|(?<!\S)&(?=\w)")  # emphasis; the key of a menu entry
MARKUP = re.compile(r"https?:|www\.|://|[{}`\\|<>]|\[%|\[[^\]]*\]\(|%\(\w+\)|%[sdrif]\b")
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")  # scripts without spaces
WORD = re.compile(r"[^\W\d_]{2,}(?:[-’'/][^\W\d_]+)*")
NUMBER = re.compile(r"\d+")


class _Marks(dict[int, str | None]):
    """str.translate table: punctuation, symbols and controls become spaces."""

    def __missing__(self, code: int) -> str:
        self[code] = kept = " " if unicodedata.category(chr(code))[0] in "PSCZ" else chr(code)
        return kept


_MARKS = _Marks()


def key(text: str) -> str:
    """What two texts share that differ in case, punctuation and spaces only."""
    return " ".join(text.casefold().translate(_MARKS).split()) or text


def blank(text: str) -> bool:
    """Whether a text is but controls, marks of no width and what the vocabulary takes for a space or for no text."""
    return all(char in "\u2581\ufffd" or unicodedata.category(char) in ("Cc", "Cf", "Zs") for char in text)


def tidy(text: str) -> str:
    """The text without tags and emphasis marks, entities resolved, in corpus.normal form."""
    return bitext.normalize(MARK.sub("", TAG.sub("", BREAK.sub(" ", html.unescape(text)))))


def words(text: str) -> int:
    """The words of a text; two letters of a script that is written without spaces count as one."""
    unspaced = len(UNSPACED.findall(text))
    return len(UNSPACED.sub(" ", text).split()) + (unspaced + 1) // 2


def _prose(text: str) -> bool:
    """Whether at least half of a text's words are plain ones: no codes, values, lists of numbers."""
    tokens = text.split()
    plain = sum(bool(WORD.fullmatch(token.strip(".,;:!?()\"'„“”‚‘’«»…"))) for token in tokens)
    return bool(UNSPACED.search(text)) or 2 * plain >= len(tokens)


def drop_reason(line: Line, limits: Cleaning) -> str | None:
    """Why a tidied pair is dropped; None: it stays."""
    if blank(line.source) or blank(line.target):
        return "an empty side"
    source, target = words(line.source), words(line.target)
    causes = {
        "address, template or code": MARKUP.search(line.source) or MARKUP.search(line.target),
        "not translated": key(line.source) == key(line.target),
        "source too short or too long": not limits.source_words.least <= source <= limits.source_words.most,
        "target too short or too long": not limits.target_words.least <= target <= limits.target_words.most,
        "lengths too unequal": max(source, target) > limits.ratio * min(source, target),
        "mostly codes and values": not _prose(line.source) or not _prose(line.target),
    }
    return next((name for name, holds in causes.items() if holds), None)


def clean(lines: list[Line], limits: Cleaning) -> tuple[list[Line], Counter[str]]:
    """The tidied lines that stay, each pair once, and the number of dropped ones by cause."""
    kept: list[Line] = []
    drops: Counter[str] = Counter()
    pairs: set[tuple[str, str]] = set()
    numbered: Counter[tuple[str, str]] = Counter()
    for raw in _shown(lines, "clean"):
        line = Line(raw.group, tidy(raw.source), tidy(raw.target))
        pair = (key(line.source), key(line.target))
        shape = (NUMBER.sub("0", pair[0]), NUMBER.sub("0", pair[1]))
        reason = drop_reason(line, limits)
        if reason is None and pair in pairs:
            reason = "repeated"
        elif reason is None and numbered[shape] >= limits.numbered:
            reason = "repeated with other numbers"
        if reason:
            drops[reason] += 1
        else:
            pairs.add(pair)
            numbered[shape] += 1
            kept.append(line)
    return kept, drops


def split(lines: list[Line], *, seed: int, dev: int, test: int) -> tuple[Split, Counter[str]]:
    """Whole groups held out, about dev and test lines; what train holds too is dropped from dev, test.

    A group's place follows from the seed and its name alone, and a group of more than a tenth of dev or test
    stays in train, so that many groups speak in each. Train is shuffled. Raises InputError for too few lines.
    """
    own = _own(lines)
    order = sorted(own, key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
    least = min((count for count in own.values() if count), default=1)
    place: dict[str, str] = {}
    for part, wanted in (("test", test), ("dev", dev)):
        held = 0
        for group in order:
            if held < wanted and group not in place and 0 < own[group] <= max(least, wanted // 10):
                place[group] = part
                held += own[group]
        if held < wanted:
            raise InputError(f"the corpus has only {held} lines to hold out for {part}, not {wanted}; ask for fewer.")
    parts: dict[str, list[Line]] = {"train": [], "dev": [], "test": []}
    for line in lines:
        parts[place.get(line.group, "train")].append(line)
    random.Random(seed).shuffle(parts["train"])
    kept_test = unseen(parts["test"], parts["train"])
    kept_dev = unseen(parts["dev"], [*parts["train"], *kept_test])
    drops = Counter({"dev, seen in train or test": len(parts["dev"]) - len(kept_dev)})
    drops["test, seen in train"] = len(parts["test"]) - len(kept_test)
    return Split(parts["train"], kept_dev, kept_test), +drops


def official(parts: Split) -> tuple[Split, Counter[str]]:
    """A given split, dev and test left whole but for empty sides; train loses its repeats and what they hold."""
    filled = Split(*([it for it in lines if not (blank(it.source) or blank(it.target))] for lines in parts))
    sides = zip(parts._fields, parts, filled, strict=True)
    drops = Counter({f"{name}, an empty side": len(before) - len(after) for name, before, after in sides})
    once = list(dict.fromkeys(filled.train))
    drops["train, repeated"] = len(filled.train) - len(once)
    train = unseen(once, [*filled.dev, *filled.test])
    drops["train, seen in dev or test"] = len(once) - len(train)
    return filled._replace(train=train), +drops


def unseen(lines: list[Line], others: list[Line]) -> list[Line]:
    """The lines whose source and whose target no other line has, whatever the case and punctuation."""
    sources, targets = set(), set()
    for other in others:
        sources.add(key(other.source))
        targets.add(key(other.target))
    shown = _shown(lines, "overlap")
    return [line for line in shown if key(line.source) not in sources and key(line.target) not in targets]


def _own(lines: list[Line]) -> dict[str, int]:
    """For each group, its lines of which no other group holds the source or the target."""
    holders: dict[str, str | None] = {}  # a source or target: its only group, or None for several
    for line in _shown(lines, "split"):
        for text in ("s" + key(line.source), "t" + key(line.target)):
            holders[text] = line.group if holders.get(text, line.group) == line.group else None
    counts: dict[str, int] = defaultdict(int)
    for line in lines:
        counts[line.group] += None not in (holders["s" + key(line.source)], holders["t" + key(line.target)])
    return counts


def _shown(lines: list[Line], label: str) -> Iterator[Line]:
    """The lines, with a progress bar where they take more than a few seconds."""
    if len(lines) < SHOW_PROGRESS_FROM:
        yield from lines
        return
    with Progress(len(lines), unit="pairs", label=label) as bar:
        for start in range(0, len(lines), 10_000):
            chunk = lines[start : start + 10_000]
            yield from chunk
            bar.add(len(chunk))


def file_digest(path: Path) -> str:
    """A file's sha256 in hexadecimal, for the record of where a text comes from."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
