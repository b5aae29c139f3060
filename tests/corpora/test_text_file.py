"""Text files are known by their first bytes: what can be read is read, what cannot is said by its name."""

import bz2
import gzip
import io
import lzma
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from seqkd.corpora import text_file, unpacking
from seqkd.utils.errors import InputError

LINES = [f"the house number {number} is old" for number in range(3000)]
TEXT = "".join(f"{line}\n" for line in LINES).encode()
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
}
ZSTD = b"\x28\xb5\x2f\xfd\x04\x68\x41\x00\x00\x61\x0a\x62\x0a\x63\x0a\x64\x0a"  # a frame's first bytes
MARKUP = b"<?xml version='1.0'?>\n<!DOCTYPE %s SYSTEM 'x.dtd'>\n<!-- made -->\n<%s version='1'>\n"


def _path(folder: Path, content: bytes, name: str = "train.de") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def _refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        list(text_file.read_lines(path))
    assert str(error.value).startswith(f"{path}")
    return str(error.value).removeprefix(str(path))


@pytest.mark.parametrize("name", ["train.de", "train.de.gz", "train.de.GZ", "train.de.xz"])
@pytest.mark.parametrize("packer", PACKERS)
def test_compressed_file_is_read_whatever_its_name(tmp_path: Path, packer: str, name: str) -> None:
    assert list(text_file.read_lines(_path(tmp_path, PACKERS[packer](TEXT), name))) == LINES


def test_plain_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    assert list(text_file.read_lines(_path(tmp_path, TEXT, "train.de.gz"))) == LINES


@pytest.mark.parametrize("packer", ["gzip", "xz", "bzip2"])
def test_compressed_file_of_several_members_and_padding_is_read_whole(tmp_path: Path, packer: str) -> None:
    members = [PACKERS[packer](TEXT[start : start + 9000]) for start in range(0, len(TEXT), 9000)]
    content = b"".join(members) + PACKERS[packer](b"") + bytes(512)
    assert list(text_file.read_lines(_path(tmp_path, content))) == LINES


@pytest.mark.parametrize("tail", [b"x", b"<html>\n", b"\0\0more", bytes(70_000) + b"x"])
@pytest.mark.parametrize("packer", ["gzip", "xz", "bzip2"])
def test_compressed_file_with_bytes_after_its_end_is_refused(tmp_path: Path, packer: str, tail: bytes) -> None:
    said = f", after line 3000: bytes after the end of the {packer} data; compress the file anew."
    assert _refusal(_path(tmp_path, PACKERS[packer](TEXT) + tail)) == said


@pytest.mark.parametrize("packer", ["gzip", "xz", "bzip2"])
def test_compressed_file_that_is_cut_short_is_refused(tmp_path: Path, packer: str) -> None:
    packed = PACKERS[packer](TEXT)
    for size in (len(packed) - 1, len(packed) // 2, 12):
        said = _refusal(_path(tmp_path, packed[:size]))
        assert re.fullmatch(rf", after line \d+: broken {packer}, cut short; compress the file anew\.", said)


@pytest.mark.parametrize("packer", ["gzip", "xz", "bzip2"])
def test_compressed_file_with_a_wrong_byte_is_refused(tmp_path: Path, packer: str) -> None:
    packed = bytearray(PACKERS[packer](TEXT))
    packed[len(packed) // 2] ^= 0x55
    said = _refusal(_path(tmp_path, bytes(packed)))
    assert re.fullmatch(rf", after line \d+: broken {packer}(, cut short)?; compress the file anew\.", said)


def test_compressed_file_with_nothing_in_it_is_called_empty(tmp_path: Path) -> None:
    for packer in PACKERS.values():
        assert _refusal(_path(tmp_path, packer(b""))) == ": the file is empty; give it text or remove it."


def test_compressed_file_is_unpacked_piece_by_piece(tmp_path: Path) -> None:
    bomb = _path(tmp_path, lzma.compress(b"a" * 50_000_000, preset=0))
    assert _refusal(bomb) == ", line 1: longer than 1,048,576 bytes; write a sentence a line."


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads zstd")
def test_zstd_file_is_refused_with_what_would_read_it(tmp_path: Path) -> None:
    if any(compression.name == "zstd" for compression in unpacking.COMPRESSIONS):
        pytest.skip("zstandard is installed")
    for content in (ZSTD, b"\x50\x2a\x4d\x18\x04\0\0\0" + ZSTD):
        said = ": is compressed by zstd, which needs Python 3.14 or the package zstandard; unpack it."
        assert _refusal(_path(tmp_path, content)) == said


def test_zstd_file_is_read_where_a_library_is_there(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.ZstdCompressor().compress(TEXT)
    assert list(text_file.read_lines(_path(tmp_path, packed + packed))) == LINES * 2
    assert "bytes after the end of the zstd data" in _refusal(_path(tmp_path, packed + b"tail"))
    assert "broken zstd, cut short" in _refusal(_path(tmp_path, packed[:-9]))


@pytest.mark.parametrize("text", ["ein Haus\nzwei Häuser\n", "дом\nдва дома\n", "房子 A\n两 个\n"])
@pytest.mark.parametrize("packer", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("encoding", "name"),
    [("utf-16", "UTF-16"), ("utf-32", "UTF-32"), ("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE")],
)
def test_utf16_file_is_refused_with_the_command_that_converts_it(
    tmp_path: Path, text: str, packer: Callable[[bytes], bytes], encoding: str, name: str
) -> None:
    said = _refusal(_path(tmp_path, packer(text.encode(encoding))))
    assert said == f": is {name}; convert the file (iconv -f {name} -t UTF-8)."


def test_file_in_another_encoding_is_refused_by_its_line(tmp_path: Path) -> None:
    said = ", line 2: not UTF-8; convert the file (iconv -f ENCODING -t UTF-8)."
    assert _refusal(_path(tmp_path, "ein Haus\nzwei Häuser\n".encode("latin-1"))) == said


def test_file_with_one_nul_is_refused_by_its_line(tmp_path: Path) -> None:
    assert _refusal(_path(tmp_path, b"ein\nzw\0ei\n")) == ", line 2: a NUL character, so this is no text; take it out."


def _zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("train.de", TEXT)
    return file.getvalue()


def _tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("train.de"))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html>\n<html lang='en'>\n<head>", "a page of HTML"),
        (b"\xef\xbb\xbf\n <!-- x --><html><head><title>404</title>", "a page of HTML"),
        (b"<!doctype HTML PUBLIC '-//W3C//DTD'>\n<HTML><BODY>Moved", "a page of HTML"),
        (gzip.compress(b"<!DOCTYPE html>\n<html>"), "a page of HTML"),
        (_zipped(), "a zip archive or a file of an office program"),
        (gzip.compress(_tarred()), "a tar archive"),
        (gzip.compress(gzip.compress(TEXT)), "compressed twice"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
        (b"{\\rtf1\\ansi", "RTF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a file of an office program"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "an archive of a kind not read"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "a pointer of Git LFS in place of the file"),
        (MARKUP % (b"tmx", b"tmx"), "TMX, which has both languages"),
        (MARKUP % (b"xliff", b"xliff"), "XLIFF, which is not read"),
        (b"<refset setid='newstest2013' srclang='any'>\n<doc>", "the markup of a test set"),
    ],
    ids=range(15),
)
def test_file_that_is_no_text_is_refused_by_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    assert _refusal(_path(tmp_path, content)).startswith(f": is {what}; ")


@pytest.mark.parametrize("line", ["<b>Hello</b> world", "<html> begins a page.", "PK is short", "< 5 > 3", ""])
def test_text_that_only_begins_like_another_format_is_read(tmp_path: Path, line: str) -> None:
    assert list(text_file.read_lines(_path(tmp_path, f"{line}\nzwei\n".encode()))) == [line, "zwei"]
