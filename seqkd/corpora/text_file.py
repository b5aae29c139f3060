"""Text files: their first bytes tell what they are, whatever their names; what is no text is said by its name."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from seqkd.corpora import unpacking
from seqkd.corpora.unpacking import BrokenError
from seqkd.utils.errors import InputError
from seqkd.utils.progress import Progress

SHOW_PROGRESS_FROM = 20_000_000  # bytes of a file
MAX_LINE = 1 << 20  # bytes, as for the vocabulary; a longer line is no sentence and may not fit in memory
HEAD = 4096  # bytes that tell what a file is

FOREIGN = {  # first bytes: what the file is, and the mend
    rb"\x1f\x8b|\xfd7zXZ\0|BZh[1-9]1AY": ("compressed twice", "unpack it once"),
    unpacking.ZSTD.pattern: ("compressed by zstd, which needs Python 3.14 or the package zstandard", "unpack it"),
    rb"PK(\x03\x04|\x05\x06)": ("a zip archive or a file of an office program", "take the text out of it"),
    rb"7z\xbc\xaf\x27\x1c|Rar!\x1a|LZIP\x01|\x04\x22\x4d\x18|\x1f\x9d": ("an archive of a kind not read", "unpack it"),
    rb".{257}ustar": ("a tar archive", "unpack it"),
    rb"%PDF-": ("a PDF", "write its text, a sentence a line"),
    rb"\xd0\xcf\x11\xe0": ("a file of an office program", "save its text as UTF-8"),
    rb"\{\\rtf": ("RTF", "save its text as UTF-8"),
    rb"PAR1": ("Parquet", "write its text, a sentence a line"),
    rb"SQLite format 3\0": ("a database", "write its text, a sentence a line"),
    rb"\x89PNG|\xff\xd8\xff|GIF8": ("a picture", "write its text, a sentence a line"),
    rb"version https://git-lfs": ("a pointer of Git LFS in place of the file", "fetch the file with git lfs pull"),
}
ROOTS = {  # outermost element of XML or SGML: what the file is, and the mend
    "html": ("a page of HTML", "download the file itself"),
    "tmx": ("TMX, which has both languages", "set data.corpus to this file"),
    "xliff": ("XLIFF, which is not read", "convert it to TMX or to lines of 'source, tab, target'"),
    **dict.fromkeys(
        ("srcset", "refset", "tstset", "mteval", "dataset"), ("the markup of a test set", "take out the text of <seg>")
    ),
}
PROLOGUE = re.compile(r"\s+|<!--.*?-->|<\?.*?\?>|<!doctype[^>\[]*(\[.*?\]\s*)?>", re.DOTALL | re.IGNORECASE)
BOMS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@contextmanager
def open_unpacked(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file to read its bytes, unpacked, with a progress bar over the bytes of a large one."""
    size = path.stat().st_size
    progress = Progress(size, unit="bytes", label=path.name) if size >= SHOW_PROGRESS_FROM else nullcontext()
    with progress as bar, path.open("rb", buffering=0) as file:
        stream: io.BufferedReader = io.BufferedReader(_Watched(file, bar) if bar else file)
        compression = unpacking.find(stream.peek())
        yield io.BufferedReader(unpacking.Unpacked(stream, compression)) if compression else stream


class _Watched(io.RawIOBase):
    """A file to read, which tells a progress bar how many bytes were read."""

    def __init__(self, file: io.FileIO, bar: Progress) -> None:
        self._file, self._bar = file, bar

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self._bar.add(count)
        return count


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, plain or compressed, as they stand there but for the line feed.

    Raise InputError, with the line, for what is no text in UTF-8, broken compression or an empty file.
    """
    number = 0
    try:
        with open_unpacked(path) as stream:
            refuse_foreign(path, stream.peek()[:HEAD])
            for line in iter(lambda: stream.readline(MAX_LINE + 1), b""):
                number += 1
                if len(line) > MAX_LINE:
                    raise InputError(f"{path}, line {number}: longer than {MAX_LINE:,} bytes; write a sentence a line.")
                if b"\0" in line:
                    raise InputError(f"{path}, line {number}: a NUL character, so this is no text; take it out.")
                yield line.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise InputError(f"{path}, line {number}: not UTF-8; convert the file (iconv -f ENCODING -t UTF-8).") from None
    except BrokenError as error:
        raise InputError(f"{path}, after line {number}: {error}; compress the file anew.") from None
    if number == 0:
        raise InputError(f"{path}: the file is empty; give it text or remove it.")


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked. Raise InputError for broken compression."""
    try:
        with open_unpacked(path) as stream:
            return stream.peek()[:HEAD]
    except BrokenError as error:
        raise InputError(f"{path}: {error}; compress the file anew.") from None


def refuse_foreign(path: Path, head: bytes) -> None:
    """Raise InputError where the first bytes of a file are those of something else than text in UTF-8."""
    found = next((said for magic, said in FOREIGN.items() if re.match(magic, head, re.DOTALL)), None)
    what, mend = found or ROOTS.get(root(head), ("", ""))
    if not found and (name := encoding(head)) != "UTF-8":
        what, mend = name, f"convert the file (iconv -f {name} -t UTF-8)"
    if what:
        raise InputError(f"{path}: is {what}; {mend}.")


def encoding(head: bytes) -> str:
    """Return iconv's name of the encoding that a byte order mark or the places of NULs show; else UTF-8."""
    for mark, name in BOMS.items():
        if head.startswith(mark):
            return name
    high, low = head[0::2].count(0), head[1::2].count(0)
    if max(high, low) < 2 or min(high, low) or 20 * max(high, low) < len(head):
        return "UTF-8"
    return "UTF-16BE" if high else "UTF-16LE"


def root(head: bytes) -> str:
    """Return the name of the outermost element where a file begins as XML, SGML or HTML; else nothing."""
    text = head.decode(encoding(head), "ignore").lstrip("\ufeff")
    while (match := PROLOGUE.match(text)) and match[0]:
        text = text[match.end() :]
    name = match[1].casefold() if (match := re.match(r"<([A-Za-z]\w*)[\s>]", text)) else ""
    is_line = name == "html" and not re.search(
        r"<!doctype html|<(head|body|title|meta)\b", head.decode("utf-8", "ignore"), re.IGNORECASE
    )
    return "" if is_line else name
