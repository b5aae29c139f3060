"""Local corpora: a user's folder of train, dev and test files, or one tab-separated file."""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from seqkd.corpora import cleaning
from seqkd.corpora.cleaning import Cleaned, Line, Split
from seqkd.data.normalization import normalize
from seqkd.utils import fingerprint
from seqkd.utils.errors import InputError
from seqkd.utils.progress import Progress

HELD_OUT = 1000  # lines split off for dev, and for test, where none are given; of fewer than 10 000 lines a tenth
SHOW_PROGRESS_FROM = 20_000_000  # bytes of a file
MAX_LINE = 1 << 20  # bytes, as for the vocabulary; a longer line is no sentence and may not fit in memory
WORD = re.compile(r"\w")


def prepare(folder: Path, *, source: str, target: str, seed: int) -> Cleaned:
    """Return a folder's train, dev and test; a dev or test that is absent is split off from train by seed.

    Raise InputError, with file and line, for an absent language, unequal line counts, bad UTF-8, an empty file.
    """
    given: dict[str, list[Line]] = {}
    checksums: dict[str, str] = {}
    for part in Split._fields:
        if paths := _find_files(folder, part, languages=(source, target)):
            given[part] = _read_pairs(*paths)
            checksums |= {path.name: fingerprint.file_sha256(path) for path in paths}
    return _clean_and_split(given, checksums, seed=seed, where=folder)


def prepare_file(path: Path, *, seed: int) -> Cleaned:
    """Return one file of 'source, tab, target' lines, plain or .gz, split by seed. Raise InputError, with the line."""
    pairs: list[Line] = []
    for number, text in enumerate(read_lines(path), start=1):
        sides = text.split("\t")
        if len(sides) != 2:
            raise InputError(f"{path}, line {number}: {len(sides)} columns; write 'source, tab, target' there.")
        pairs.append(Line("", *map(normalize, sides)))
    return _clean_and_split({"train": pairs}, {path.name: fingerprint.file_sha256(path)}, seed=seed, where=path)


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, plain or .gz. Raise InputError, with the line, for no text or an empty file."""
    number = 0
    with path.open("rb") as raw:
        try:
            for line in _unpacked_lines(raw, path):
                number += 1
                if len(line) > MAX_LINE:
                    raise InputError(f"{path}, line {number}: longer than {MAX_LINE:,} bytes; write a sentence a line.")
                if b"\0" in line:
                    raise InputError(f"{path}, line {number}: a NUL character, so this is no text; take it out.")
                yield line.decode("utf-8").removeprefix("\ufeff").rstrip("\r\n")
        except UnicodeDecodeError:
            raise InputError(f"{path}, line {number}: not UTF-8; convert the file.") from None
        except (gzip.BadGzipFile, zlib.error, EOFError):
            raise InputError(f"{path}, after line {number}: broken gzip; compress the file anew.") from None
    if number == 0:
        raise InputError(f"{path}: the file is empty; give it text or remove it.")


def _unpacked_lines(raw: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the lines of an open file, unpacked, with a progress bar over the bytes of a large one."""
    stream = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
    size = path.stat().st_size
    lines = iter(lambda: stream.readline(MAX_LINE + 1), b"")
    if size < SHOW_PROGRESS_FROM:
        yield from lines
        return
    with Progress(size, unit="bytes", label=path.name) as bar:
        for number, line in enumerate(lines):
            yield line
            if number % 10_000 == 0:
                bar.add(raw.tell() - bar.done)


def _find_files(folder: Path, part: str, languages: tuple[str, str]) -> list[Path]:
    """Return the two files of a part, none for an absent dev or test. Raise InputError for one without the other."""
    names = {language: [folder / f"{part}.{language}{end}" for end in ("", ".gz")] for language in languages}
    candidates = [path for paths in names.values() for path in paths]
    for path in candidates:
        if path.is_symlink() and not path.exists():
            raise InputError(f"{path}: a link to a file that is not there; correct the link or remove it.")
    files = [path for path in candidates if path.exists()]
    for language, paths in names.items():
        existing = [path for path in paths if path.exists()]
        if len(existing) == 2:
            raise InputError(f"{folder} has both {existing[0].name} and {existing[1].name}; remove one of them.")
        if not existing and (files or part == "train"):
            available = sorted({path.name.removesuffix(".gz").split(".")[-1] for path in folder.glob(f"{part}.*")})
            raise InputError(
                f"{folder} has no {part}.{language} or {part}.{language}.gz; "
                f"languages of {part} there: {', '.join(available) or 'none'} (data.source and data.target choose)."
            )
    return files


def _read_pairs(source: Path, target: Path) -> list[Line]:
    """Return the pairs of two files, line by line. Raise InputError for unequal counts."""
    sides = [[normalize(text) for text in read_lines(path)] for path in (source, target)]
    longer, shorter = (source, target) if len(sides[0]) > len(sides[1]) else (target, source)
    if len(sides[0]) != len(sides[1]):
        raise InputError(
            f"{longer}, line {min(map(len, sides)) + 1}: no such line in {shorter}, which has {min(map(len, sides))} "
            f"lines, not {max(map(len, sides))}; line n of one must translate line n of the other."
        )
    return [Line("", *pair) for pair in zip(*sides, strict=True)]


def _clean_and_split(given: dict[str, list[Line]], checksums: dict[str, str], *, seed: int, where: Path) -> Cleaned:
    """Remove repeats and overlap, and split the absent parts off from train; a source sentence is in one part only.

    Raise InputError for a text that cannot be trained on.
    """
    cleaned, drops = cleaning.clean_given_split(Split(given["train"], given.get("dev", []), given.get("test", [])))
    absent = [part for part in ("dev", "test") if part not in given]
    _check_usable(given, cleaned, where, least=1 + len(absent))
    origin: dict[str, object] = {"files": checksums, **{part: "given" for part in given if part != "train"}}
    if absent:
        count = min(HELD_OUT, max(1, len(cleaned.train) // 10))
        lines = [line._replace(group=cleaning.key(line.source)) for line in cleaned.train]
        counts = {part: count * (part in absent) for part in ("dev", "test")}
        try:
            parts, more = cleaning.split(lines, seed=seed, **counts)
        except InputError:
            raise InputError(
                f"{where}: too few pairs share neither side with another to split off {' and '.join(absent)}; "
                "give dev and test files, beside train files, in a folder."
            ) from None
        cleaned = Split(parts.train, cleaned.dev or parts.dev, cleaned.test or parts.test)
        drops += more
        origin |= dict.fromkeys(absent, "split off from train by seed")
    return Cleaned(cleaned, drops, origin)


def _check_usable(given: dict[str, list[Line]], cleaned: Split, where: Path, *, least: int) -> None:
    """Raise InputError for fewer than `least` different pairs, a part without words, an untranslated text."""
    if len(cleaned.train) < least:
        count = f"{len(cleaned.train)} of {len(given['train'])} training pairs are left"
        raise InputError(
            f"{where}: {count} without repeats, empty sides and what dev and test hold; give {least} or more."
        )
    for part in given:
        if not any(WORD.search(line.source) and WORD.search(line.target) for line in getattr(cleaned, part)):
            raise InputError(f"{where}: no pair of {part} has words on both sides; give it sentences.")
    if all(line.source == line.target for line in cleaned.train):
        raise InputError(f"{where}: the target of every training pair is its source; give it the translations.")
