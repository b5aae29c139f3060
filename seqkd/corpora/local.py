"""A user's own parallel text: a folder of train, dev and test files, or one tab-separated file."""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from seqkd.corpora import cleaning
from seqkd.corpora.cleaning import Cleaned, Line, Split
from seqkd.data import bitext
from seqkd.utils.errors import InputError
from seqkd.utils.progress import Progress

HELD_OUT = 1000  # lines split off for dev, and for test, where none are given; of less than 10 000 lines a tenth
LARGE = 20_000_000  # bytes of a file from which its reading is shown
LONGEST = 1 << 20  # bytes of a line, as for the vocabulary; a longer one is no sentence, and may not fit in memory


def prepare(folder: Path, *, source: str, target: str, seed: int) -> Cleaned:
    """A folder's train, dev and test; dev and test are split off from train by seed where they are absent.

    Raises InputError, with file and line, for an absent language, unequal line counts, bad UTF-8, an empty file.
    """
    given: dict[str, list[Line]] = {}
    files: dict[str, str] = {}
    for part in Split._fields:
        if paths := _paths(folder, part, languages=(source, target)):
            given[part] = _aligned(*paths)
            files |= {path.name: cleaning.file_digest(path) for path in paths}
    return _divided(given, files, seed=seed, where=folder)


def prepare_file(path: Path, *, seed: int) -> Cleaned:
    """One file of 'source, tab, target' lines, plain or .gz, split by seed. Raises InputError, with the line."""
    pairs: list[Line] = []
    for number, text in enumerate(lines(path), start=1):
        sides = text.split("\t")
        if len(sides) != 2:
            raise InputError(f"{path}, line {number}: {len(sides)} columns; write 'source, tab, target' there.")
        pairs.append(Line("", *map(bitext.normalize, sides)))
    return _divided({"train": pairs}, {path.name: cleaning.file_digest(path)}, seed=seed, where=path)


def lines(path: Path) -> Iterator[str]:
    """The lines of a text file, plain or .gz. Raises InputError, with the line, for what is no text; an empty file."""
    number = 0
    with path.open("rb") as raw:
        try:
            for line in _shown(raw, path):
                number += 1
                if len(line) > LONGEST:
                    raise InputError(f"{path}, line {number}: longer than {LONGEST:,} bytes; write a sentence a line.")
                if b"\0" in line:
                    raise InputError(f"{path}, line {number}: a NUL character, so this is no text; take it out.")
                yield line.decode("utf-8").removeprefix("\ufeff").rstrip("\r\n")
        except UnicodeDecodeError:
            raise InputError(f"{path}, line {number}: not UTF-8; convert the file.") from None
        except (gzip.BadGzipFile, zlib.error, EOFError):
            raise InputError(f"{path}, after line {number}: broken gzip; compress the file anew.") from None
    if number == 0:
        raise InputError(f"{path}: the file is empty; give it text or take it away.")


def _shown(raw: BinaryIO, path: Path) -> Iterator[bytes]:
    """The lines of an open file, unpacked, with a progress bar over a large one's bytes."""
    stream = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
    size = path.stat().st_size
    found = iter(lambda: stream.readline(LONGEST + 1), b"")
    if size < LARGE:
        yield from found
        return
    with Progress(size, unit="bytes", label=path.name) as bar:
        for number, line in enumerate(found):
            yield line
            if number % 10_000 == 0:
                bar.add(raw.tell() - bar.done)


def _paths(folder: Path, part: str, languages: tuple[str, str]) -> list[Path]:
    """The two files of a part; none for a dev or test that is absent. Raises InputError for one without the other."""
    found = {language: [folder / f"{part}.{language}{end}" for end in ("", ".gz")] for language in languages}
    paths = [path for names in found.values() for path in names if path.exists()]
    for path in (path for names in found.values() for path in names if path.is_symlink() and not path.exists()):
        raise InputError(f"{path}: a link to a file that is not there; correct the link or take it away.")
    for language, names in found.items():
        here = [path for path in names if path.exists()]
        if len(here) == 2:
            raise InputError(f"{folder} has both {here[0].name} and {here[1].name}; take one of them away.")
        if not here and (paths or part == "train"):
            spoken = sorted({path.name.removesuffix(".gz").split(".")[-1] for path in folder.glob(f"{part}.*")})
            raise InputError(
                f"{folder} has no {part}.{language} or {part}.{language}.gz; "
                f"languages of {part} there: {', '.join(spoken) or 'none'} (data.source and data.target choose)."
            )
    return paths


def _aligned(source: Path, target: Path) -> list[Line]:
    """The pairs of two files, line by line. Raises InputError for unequal counts."""
    sides = [[bitext.normalize(text) for text in lines(path)] for path in (source, target)]
    longer, shorter = (source, target) if len(sides[0]) > len(sides[1]) else (target, source)
    if len(sides[0]) != len(sides[1]):
        raise InputError(
            f"{longer}, line {min(map(len, sides)) + 1}: no such line in {shorter}, which has {min(map(len, sides))} "
            f"lines, not {max(map(len, sides))}; line n of one must translate line n of the other."
        )
    return [Line("", *pair) for pair in zip(*sides, strict=True)]


def _divided(given: dict[str, list[Line]], files: dict[str, str], *, seed: int, where: Path) -> Cleaned:
    """Repeats and overlap gone; the absent parts split off from train, a source sentence going as a whole.

    Raises InputError for a text that teaches nothing.
    """
    whole, drops = cleaning.official(Split(given["train"], given.get("dev", []), given.get("test", [])))
    absent = [part for part in ("dev", "test") if part not in given]
    _worth_training(given, whole, where, least=1 + len(absent))
    origin: dict[str, object] = {"files": files, **{part: "given" for part in given if part != "train"}}
    if absent:
        count = min(HELD_OUT, max(1, len(whole.train) // 10))
        pool = [line._replace(group=cleaning.key(line.source)) for line in whole.train]
        try:
            parts, more = cleaning.split(pool, seed=seed, **{it: count * (it in absent) for it in ("dev", "test")})
        except InputError:
            raise InputError(
                f"{where}: too few pairs share neither side with another to split off {' and '.join(absent)}; "
                "give dev and test files, beside train files, in a folder."
            ) from None
        whole = Split(parts.train, whole.dev or parts.dev, whole.test or parts.test)
        drops += more
        origin |= dict.fromkeys(absent, "split off from train by seed")
    return Cleaned(whole, drops, origin)


def _worth_training(given: dict[str, list[Line]], left: Split, where: Path, *, least: int) -> None:
    """Raises InputError, with the cause and the mend, for too few different pairs, no words, an untranslated text."""
    if len(left.train) < least:
        count = f"{len(left.train)} of {len(given['train'])} training pairs are left"
        raise InputError(
            f"{where}: {count} without repeats, empty sides and what dev and test hold; give {least} or more."
        )
    for part in given:
        if not any(WORD.search(line.source) and WORD.search(line.target) for line in getattr(left, part)):
            raise InputError(f"{where}: no pair of {part} has words on both sides; give it sentences.")
    if all(line.source == line.target for line in left.train):
        raise InputError(f"{where}: the target of every training pair is its source; give it the translations.")


WORD = re.compile(r"\w")
