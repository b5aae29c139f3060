"""Cleaning of raw sentence pairs: tidy, filter, split, remove overlap. Every dropped pair is counted by its cause."""

import hashlib
import html
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from seqkd.config.records import Positive, Record
from seqkd.data import placeholders
from seqkd.data.normalization import normalize
from seqkd.data.words import UNSPACED, count_words
from seqkd.utils.errors import InputError
from seqkd.utils.progress import Progress

SHOW_PROGRESS_FROM = 200_000  # pairs
DIFFERENT = "different placeholders in source and target"  # the cause of a drop
CHANGED = "texts whose characters changed"  # the key of that count in the account of a corpus


class Line(NamedTuple):
    group: str  # lines that are not split up: of a component, a catalogue, a source sentence
    source: str
    target: str


class Split(NamedTuple):
    train: list[Line]
    dev: list[Line]
    test: list[Line]


class Cleaned(NamedTuple):
    parts: Split
    drops: Counter[str]  # number of dropped lines by cause
    origin: dict[str, object]  # where the text comes from
    notes: tuple[str, ...] = ()  # what the user should know besides


class WordLimits(Record):
    """The numbers of words that a sentence may have."""

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
    ratio: Annotated[float, Field(ge=1)]  # words of the longer side divided by those of the shorter, at most
    numbered: Positive  # how many of the pairs that differ only in their numbers are kept


TAG = re.compile(r"</?[A-Za-z][^<>]*>")
BREAK = re.compile(r"</?(?:br|p|li|ul|ol|div|h\d|tr|td|table)\b[^<>]*>", re.IGNORECASE)
MARK = re.compile(r"\*\*|(?<!\w)__(?=\w)|(?<=\w)__(?!\w)|(?<!\S)&(?=\w)")  # emphasis; & before a menu's key
MARKUP = re.compile(r"https?:|www\.|://|[{}`\\|<>]|\[%|\[[^\]]*\]\(|%\(\w+\)|%[sdrif]\b")
# What a tokenizer leaves in a text: Moses' @-@ and entities, subword-nmt's @@ .
JOINT = re.compile(r" ?(?:@|##AT##)([-,./:])(?:@|##AT##) ?|(?<=\w)@@ (?=\S)")
ENTITY = re.compile(r"&(?:amp|apos|quot|lt|gt|nbsp|#\d{1,7}|#x[0-9a-f]{1,6});", re.IGNORECASE)
WORD = re.compile(r"[^\W\d_]{2,}(?:[-’'/][^\W\d_]+)*")
NUMBER = re.compile(r"\d+")


class _PunctuationToSpace(dict[int, str | None]):
    """A table for str.translate: punctuation, symbols and controls become spaces."""

    def __missing__(self, code: int) -> str:
        self[code] = char = " " if unicodedata.category(chr(code))[0] in "PSCZ" else chr(code)
        return char


_PUNCTUATION_TO_SPACE = _PunctuationToSpace((ord(sign), f" {sign} ") for sign in placeholders.SIGNS)


def key(text: str) -> str:
    """Return a key that is the same for texts that differ only in case, punctuation, spaces and placeholders' names."""
    return " ".join(_masked(text).casefold().translate(_PUNCTUATION_TO_SPACE).split()) or text


def _masked(text: str) -> str:
    """Return the text with the numbers of its placeholders, as a model reads it."""
    return placeholders.mask(text, placeholders.find(text))


def tidy(text: str) -> str:
    """Return the text without tags and emphasis marks, with entities resolved, in the normal form."""
    return normalize(MARK.sub("", TAG.sub("", BREAK.sub(" ", html.unescape(text)))))


def untokenize(text: str) -> str:
    """Return the text as tidy does, and without the marks of a tokenizer."""
    return tidy(JOINT.sub(lambda mark: mark[1] or "", text))


class CountedForm:
    """The form that a corpus's texts take, and the number of texts in which it changes more than white space."""

    def __init__(self, *, tidied: bool) -> None:
        self.form = untokenize if tidied else normalize
        self.changed = 0

    def __call__(self, text: str) -> str:
        result = self.form(text)
        if result != text:
            self.changed += result.replace(" ", "") != "".join(text.split())
        return result


def note_marks(parts: Mapping[str, list[Line]], *, tidied: bool) -> tuple[str, ...]:
    """Return a note on the number of pairs that hold entities or a tokenizer's marks; none where none does."""
    sides = ((line.source, line.target) for lines in parts.values() for line in lines)
    count = sum(any(ENTITY.search(text) or JOINT.search(text) for text in pair) for pair in sides)
    mend = "they are left after data.tidy" if tidied else "data.tidy: true in params.yaml resolves them"
    return (f"{count:,} pairs have entities or a tokenizer's marks, such as &quot; or @-@; {mend}.",) * (count > 0)


def _is_prose(text: str) -> bool:
    """Return whether at least half of a text's words are plain ones, not codes, values or numbers."""
    tokens = text.split()
    plain = sum(bool(WORD.fullmatch(token.strip(".,;:!?()\"'„“”‚‘’«»…"))) for token in tokens)
    return bool(UNSPACED.search(text)) or 2 * plain >= len(tokens)


def drop_reason(line: Line, limits: Cleaning) -> str | None:
    """Return why a tidied pair is dropped; None: it is kept."""
    if not (line.source and line.target):
        return "an empty side"
    masked_source, masked_target = _masked(line.source), _masked(line.target)
    source, target = count_words(masked_source), count_words(masked_target)
    causes = {
        "address, template or code": MARKUP.search(masked_source) or MARKUP.search(masked_target),
        DIFFERENT: placeholders.differ(line.source, line.target),
        "not translated": key(line.source) == key(line.target),
        "source too short or too long": not limits.source_words.least <= source <= limits.source_words.most,
        "target too short or too long": not limits.target_words.least <= target <= limits.target_words.most,
        "lengths too unequal": max(source, target) > limits.ratio * min(source, target),
        "mostly codes and values": not _is_prose(masked_source) or not _is_prose(masked_target),
    }
    return next((name for name, holds in causes.items() if holds), None)


def source_drop_reason(text: str, limits: Cleaning) -> str | None:
    """Return why a tidied source without a target is dropped, by what drop_reason says of sources; None: it is kept."""
    text = _masked(text)
    causes = {
        "address, template or code": MARKUP.search(text),
        "source too short or too long": not limits.source_words.least <= count_words(text) <= limits.source_words.most,
        "mostly codes and values": not _is_prose(text),
    }
    return next((name for name, holds in causes.items() if holds), None)


def clean(lines: list[Line], limits: Cleaning) -> tuple[list[Line], Counter[str]]:
    """Return the kept lines, tidied and each pair once, and the number of dropped ones by cause."""
    kept: list[Line] = []
    drops: Counter[str] = Counter()
    pairs: set[tuple[str, str]] = set()
    numbered: Counter[tuple[str, str]] = Counter()
    for raw in _with_progress(lines, "clean"):
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


def split(
    lines: list[Line], *, seed: int, dev: int, test: int, train_only: Collection[str] = ()
) -> tuple[Split, Counter[str]]:
    """Hold out whole groups of about dev and test lines, without the lines that train has too.

    The part of a group depends only on the seed and the group's name. A group of more than a tenth of dev or test
    stays in train, so that dev and test have many groups; so do the groups of train_only. Train is shuffled. Raise
    InputError for too few lines.
    """
    part_of = _hold_out_groups(lines, seed=seed, dev=dev, test=test, train_only=train_only)
    parts: dict[str, list[Line]] = {"train": [], "dev": [], "test": []}
    for line in lines:
        parts[part_of.get(line.group, "train")].append(line)
    random.Random(seed).shuffle(parts["train"])
    kept_test = without_overlap(parts["test"], parts["train"])
    kept_dev = without_overlap(parts["dev"], [*parts["train"], *kept_test])
    drops = Counter({"dev, seen in train or test": len(parts["dev"]) - len(kept_dev)})
    drops["test, seen in train"] = len(parts["test"]) - len(kept_test)
    return Split(parts["train"], kept_dev, kept_test), +drops


def _hold_out_groups(
    lines: list[Line], *, seed: int, dev: int, test: int, train_only: Collection[str]
) -> dict[str, str]:
    """Return the held-out groups and the part of each, dev or test."""
    sizes = {group: count for group, count in _count_unshared(lines).items() if group not in train_only}
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())
    smallest = min((count for count in sizes.values() if count), default=1)
    part_of: dict[str, str] = {}
    for part, wanted in (("test", test), ("dev", dev)):
        held_out = 0
        for group in order:
            if held_out < wanted and group not in part_of and 0 < sizes[group] <= max(smallest, wanted // 10):
                part_of[group] = part
                held_out += sizes[group]
        if held_out < wanted:
            raise InputError(
                f"the corpus has only {held_out} lines to hold out for {part}, not {wanted}; ask for fewer."
            )
    return part_of


def clean_given_split(parts: Split) -> tuple[Split, Counter[str]]:
    """Drop lines with an empty side from a given split, and from train what teaches badly or dev or test have.

    Repeats teach badly, and pairs whose sides hold different placeholders.
    """
    filled = Split(*([line for line in lines if line.source and line.target] for lines in parts))
    sides = zip(parts._fields, parts, filled, strict=True)
    drops = Counter({f"{name}, an empty side": len(before) - len(after) for name, before, after in sides})
    distinct = list(dict.fromkeys(filled.train))
    drops["train, repeated"] = len(filled.train) - len(distinct)
    alike = [line for line in distinct if not placeholders.differ(line.source, line.target)]
    drops[f"train, {DIFFERENT}"] = len(distinct) - len(alike)
    train = without_overlap(alike, [*filled.dev, *filled.test])
    drops["train, seen in dev or test"] = len(alike) - len(train)
    return filled._replace(train=train), +drops


def without_overlap(lines: list[Line], others: list[Line]) -> list[Line]:
    """Return the lines of which no other line has the source or the target, by their keys."""
    sources, targets = set(), set()
    for other in others:
        sources.add(key(other.source))
        targets.add(key(other.target))
    checked = _with_progress(lines, "overlap")
    return [line for line in checked if key(line.source) not in sources and key(line.target) not in targets]


def _count_unshared(lines: list[Line]) -> dict[str, int]:
    """Return the number of lines of each group of which no other group has the source or the target."""
    owners: dict[str, str | None] = {}  # a source or target: its only group, or None for several
    for line in _with_progress(lines, "split"):
        for text in ("s" + key(line.source), "t" + key(line.target)):
            owners[text] = line.group if owners.get(text, line.group) == line.group else None
    counts: dict[str, int] = defaultdict(int)
    for line in lines:
        counts[line.group] += None not in (owners["s" + key(line.source)], owners["t" + key(line.target)])
    return counts


def _with_progress(lines: list[Line], label: str) -> Iterator[Line]:
    """Yield the lines, with a progress bar where they take more than a few seconds."""
    if len(lines) < SHOW_PROGRESS_FROM:
        yield from lines
        return
    with Progress(len(lines), unit="pairs", label=label) as bar:
        for start in range(0, len(lines), 10_000):
            chunk = lines[start : start + 10_000]
            yield from chunk
            bar.add(len(chunk))
