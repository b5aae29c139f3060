"""Compressed files: known by their first bytes, whatever their names, and unpacked piece by piece."""

import bz2
import importlib
import importlib.util
import io
import lzma
import re
import sys
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

SUFFIXES = ("gz", "xz", "lzma", "bz2", "zst", "zstd")
LIMIT = 1 << 16  # bytes unpacked at once


class BrokenError(Exception):
    """Says what is wrong with compressed data."""


class Compression(NamedTuple):
    name: str
    magic: re.Pattern[bytes]  # how every member begins
    decompressor: Callable[[], Any]  # of one member, as the modules lzma and bz2 have it
    chunk: int = LIMIT  # packed bytes read at once


class _Zstandard:
    """The package zstandard as a decompressor. It takes no limit, so it gets less at once: 16 MiB come at most."""

    CHUNK = 512

    def __init__(self) -> None:
        self._member = importlib.import_module("zstandard").ZstdDecompressor().decompressobj()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._member, name)

    def decompress(self, data: bytes, limit: int) -> bytes:
        return bytes(self._member.decompress(data))


COMPRESSIONS = [
    Compression("gzip", re.compile(rb"\x1f\x8b"), lambda: zlib.decompressobj(wbits=31)),
    Compression("xz", re.compile(rb"\xfd7zXZ\0|\x5d\0\0"), lzma.LZMADecompressor),
    Compression("bzip2", re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), bz2.BZ2Decompressor),
]
ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")  # a frame, or one to skip
if sys.version_info >= (3, 14):
    COMPRESSIONS.append(
        Compression("zstd", ZSTD, lambda: importlib.import_module("compression.zstd").ZstdDecompressor())
    )
elif importlib.util.find_spec("zstandard"):
    COMPRESSIONS.append(Compression("zstd", ZSTD, _Zstandard, _Zstandard.CHUNK))


def find(head: bytes) -> Compression | None:
    """Return how a file with these first bytes is compressed; None: not in a way that can be read."""
    return next((compression for compression in COMPRESSIONS if compression.magic.match(head)), None)


class Unpacked(io.RawIOBase):
    """The bytes in a compressed file, of all its members; read raises BrokenError after the last whole ones."""

    def __init__(self, packed: BinaryIO, compression: Compression) -> None:
        self._packed, self._compression = packed, compression
        self._member = compression.decompressor()
        self._rest = b""  # packed bytes that were read with the member before
        self._ready = b""  # unpacked bytes
        self._fault = ""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        done = 0
        while done < len(buffer) and (self._ready or self._unpack()):
            count = min(len(buffer) - done, len(self._ready))
            buffer[done : done + count], self._ready = self._ready[:count], self._ready[count:]
            done += count
        if self._fault and not done:
            raise BrokenError(self._fault)
        return done

    def _unpack(self) -> bool:
        """Unpack some more bytes, perhaps none. Return False at the end, and at a fault."""
        if self._fault or (self._member.eof and not self._begin_member()):
            return False
        data, ended = getattr(self._member, "unconsumed_tail", b""), False  # zlib gives back what it did not take
        if not data and getattr(self._member, "needs_input", True):
            data, self._rest = self._rest or self._packed.read(self._compression.chunk), b""
            ended = not data
        try:
            self._ready = self._member.decompress(data, LIMIT)
        except MemoryError:
            raise
        except Exception:  # each library has its own
            self._fault = f"broken {self._compression.name}"
        if ended and not self._ready and not self._member.eof:
            self._fault = f"broken {self._compression.name}, cut short"
        return not self._fault

    def _begin_member(self) -> bool:
        """Go on to the next member. Return False where there is none, and for other bytes than padding."""
        magic, rest = self._compression.magic, self._member.unused_data.lstrip(b"\0")
        while not magic.match(rest) and (more := self._packed.read(self._compression.chunk)):
            rest = (rest + more).lstrip(b"\0")
            if len(rest) > LIMIT:
                break
        if rest and not magic.match(rest):
            self._fault = f"bytes after the end of the {self._compression.name} data"
        if not rest or self._fault:
            return False
        self._rest, self._member = rest, self._compression.decompressor()
        return True
