"""Cleaning of raw sentence pairs: tidy, filter, split, remove overlap. Every dropped pair is counted by its cause."""

import html
import random
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from itertools import islice
from typing import Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from seqkd.config.records import Positive, Record
from seqkd.corpora import hashes, stored
from seqkd.corpora.hashes import Hashes, Mask, ordered_hash, text_hash
from seqkd.corpora.stored import Chosen, Line
from seqkd.data import placeholders
from seqkd.data.normalization import normalize
from seqkd.data.ragged import ColumnWriter
from seqkd.data.words import UNSPACED, count_words
from seqkd.utils.errors import InputError
from seqkd.utils.progress import Progress

SHOW_PROGRESS_FROM = 200_000  # pairs
DIFFERENT = "different placeholders in source and target"  # the cause of a drop
CHANGED = "texts whose characters changed"  # the key of that count in the account of a corpus


class Split(NamedTuple):
    train: Sequence[Line]
    dev: Sequence[Line]
    test: Sequence[Line]


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


def note_marks(parts: Mapping[str, Iterable[Line]], *, tidied: bool) -> tuple[str, ...]:
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


def clean(lines: Sequence[Line], limits: Cleaning) -> tuple[list[Line], Counter[str]]:
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


class _Columns(NamedTuple):
    """The hashes of each line's texts, by their keys, and of its group."""

    sources: Hashes
    targets: Hashes
    groups: Hashes  # a smaller one comes first when groups are held out


def split(
    lines: Sequence[Line],
    *,
    seed: int,
    dev: int,
    test: int,
    train_only: Collection[str] = (),
    by_source: bool = False,
) -> tuple[Split, Counter[str]]:
    """Hold out whole groups of about dev and test lines, without the lines that train has too.

    The part of a group depends only on the seed and the group's name. A group of more than a tenth of dev or test
    stays in train, so that dev and test have many groups; so do the groups of train_only. Train is shuffled. Raise
    InputError for too few lines.
    by_source: the group of a line is its source, by its key.
    """
    columns = _columns(lines, seed=seed, by_source=by_source)
    counted = ~hashes.among(columns.groups, [ordered_hash(f"{seed}/{group}") for group in train_only])
    for texts in (columns.sources, columns.targets):
        counted &= ~hashes.several(texts, columns.groups)
    groups = _hold_out_groups(columns.groups, counted, dev=dev, test=test)
    in_test, in_dev = (hashes.among(columns.groups, groups[part]) for part in ("test", "dev"))
    others = ~(in_test | in_dev)
    train = array("I")
    train.frombytes(stored.rows(others).view(np.uint8).data)
    random.Random(seed).shuffle(train)
    kept_test = _without_overlap(np.flatnonzero(in_test), others, columns)
    others[kept_test] = True
    kept_dev = _without_overlap(np.flatnonzero(in_dev), others, columns)
    drops = Counter({"dev, seen in train or test": int(in_dev.sum()) - len(kept_dev)})
    drops["test, seen in train"] = int(in_test.sum()) - len(kept_test)
    return Split(*(Chosen(lines, rows) for rows in (train, kept_dev, kept_test))), +drops


def _columns(lines: Sequence[Line], *, seed: int, by_source: bool) -> _Columns:
    sources, targets, groups = (ColumnWriter(hashes.UNSIGNED) for _ in _Columns._fields)
    for line in _with_progress(lines, "split"):
        source = key(line.source)
        sources.append(text_hash(source))
        targets.append(text_hash(key(line.target)))
        groups.append(ordered_hash(f"{seed}/{source if by_source else line.group}"))
    return _Columns(sources.finish(), targets.finish(), groups.finish())


def _hold_out_groups(groups: Hashes, counted: Mask, *, dev: int, test: int) -> dict[str, list[int]]:
    """Return the held-out groups of each part, dev and test. counted: lines that count for the size of a group."""
    smallest = min((int(sizes.min()) for _, sizes in _sizes(groups, counted)), default=1)
    held_out: dict[str, list[int]] = {"test": [], "dev": []}
    for part, wanted in (("test", test), ("dev", dev)):
        lines = 0
        for some, sizes in _sizes(groups, counted):
            for group, size in zip(some.tolist(), sizes.tolist(), strict=True):
                if lines < wanted and size <= max(smallest, wanted // 10) and group not in held_out["test"]:
                    held_out[part].append(group)
                    lines += size
            if lines >= wanted:
                break
        if lines < wanted:
            raise InputError(f"the corpus has only {lines} lines to hold out for {part}, not {wanted}; ask for fewer.")
    return held_out


def _sizes(groups: Hashes, counted: Mask) -> Iterator[tuple[Hashes, NDArray[np.int64]]]:
    """Yield the groups that have lines which count, in order and some at a time, with the number of these lines."""
    for rows, starts in hashes.runs(groups):
        sizes = np.add.reduceat(counted[rows].astype(np.int64), starts)
        if sizes.any():
            yield groups[rows[starts]][sizes > 0], sizes[sizes > 0]


def _without_overlap(rows: NDArray[np.intp], others: Mask, columns: _Columns) -> NDArray[np.intp]:
    """Return the rows of which no other row has the source or the target, by their keys."""
    alone = np.ones(len(rows), np.bool_)
    for texts in (columns.sources, columns.targets):
        own = texts[rows]
        alone &= ~hashes.among(own, texts[others & hashes.among(texts, own)])
    return rows[alone]


class TrainFault(IntEnum):
    """Why a training pair of a given split is dropped."""

    NONE = 0
    EMPTY = 1
    REPEATED = 2
    DIFFERENT = 3
    SEEN = 4


def clean_given_split(parts: Split) -> tuple[Split, Counter[str]]:
    """Drop lines with an empty side from a given split, and from train what teaches badly or dev or test have.

    Repeats teach badly, and pairs whose sides hold different placeholders.
    """
    dev, test = (Chosen(lines, [row for row, line in enumerate(lines) if _is_filled(line)]) for lines in parts[1:])
    held_out = [{key(line[side]) for line in (*dev, *test)} for side in (1, 2)]
    found, lines = bytearray(), ColumnWriter(hashes.UNSIGNED)
    for line in _with_progress(parts.train, "clean"):
        found.append(_train_fault(line, held_out))
        lines.append(text_hash("\t".join(line)))
    faults = np.frombuffer(found, np.uint8)
    faults[hashes.repeats(lines.finish()) & (faults != TrainFault.EMPTY)] = TrainFault.REPEATED
    counts = np.bincount(faults, minlength=len(TrainFault)).tolist()
    drops = Counter({"train, an empty side": counts[TrainFault.EMPTY]})
    for name, before, after in (("dev", parts.dev, dev), ("test", parts.test, test)):
        drops[f"{name}, an empty side"] = len(before) - len(after)
    drops["train, repeated"] = counts[TrainFault.REPEATED]
    drops[f"train, {DIFFERENT}"] = counts[TrainFault.DIFFERENT]
    drops["train, seen in dev or test"] = counts[TrainFault.SEEN]
    return Split(Chosen(parts.train, stored.rows(faults == TrainFault.NONE)), dev, test), +drops


def _train_fault(line: Line, held_out: Sequence[set[str]]) -> TrainFault:
    """Return why a training pair is dropped, repeats aside. held_out: the keys of both sides of dev and test."""
    if not _is_filled(line):
        return TrainFault.EMPTY
    if placeholders.differ(line.source, line.target):
        return TrainFault.DIFFERENT
    seen = any(key(text) in keys for text, keys in zip(line[1:], held_out, strict=True))
    return TrainFault.SEEN if seen else TrainFault.NONE


def _is_filled(line: Line) -> bool:
    return bool(line.source and line.target)


def _with_progress(lines: Sequence[Line], label: str) -> Iterator[Line]:
    """Yield the lines, with a progress bar where they take more than a few seconds."""
    if len(lines) < SHOW_PROGRESS_FROM:
        yield from lines
        return
    with Progress(len(lines), unit="pairs", label=label) as bar:
        remaining = iter(lines)
        while chunk := list(islice(remaining, 10_000)):
            yield from chunk
            bar.add(len(chunk))
