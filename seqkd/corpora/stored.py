"""Lines of a corpus on the disk, and a choice of lines: sequences whose memory does not grow with the text."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqkd.data import ragged
from seqkd.data.ragged import RaggedArray, RaggedWriter

T = TypeVar("T")


class Line(NamedTuple):
    group: str  # lines that are not split up: of a component, a catalogue, a source sentence
    source: str
    target: str


class Chosen(Sequence[T]):
    """Some rows of a sequence, in an order of their own; 4 bytes a row."""

    def __init__(self, all_rows: Sequence[T], rows: ArrayLike) -> None:
        self._all: Sequence[T] = all_rows
        self._rows: NDArray[Any] = np.asarray(rows, np.uint32)
        if isinstance(all_rows, Chosen):
            self._all, self._rows = all_rows._all, all_rows._rows[self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> "Chosen[T]": ...

    def __getitem__(self, index: int | slice) -> "T | Chosen[T]":
        if isinstance(index, slice):
            return Chosen(self._all, self._rows[index])
        return self._all[int(self._rows[index])]


class StoredLines(Sequence[Line]):
    """Lines in files that are mapped into memory. The texts are UTF-8."""

    def __init__(self, sources: RaggedArray, targets: RaggedArray) -> None:
        self._sides = sources, targets

    def __len__(self) -> int:
        return len(self._sides[0])

    @overload
    def __getitem__(self, index: int) -> Line: ...

    @overload
    def __getitem__(self, index: slice) -> Chosen[Line]: ...

    def __getitem__(self, index: int | slice) -> Line | Chosen[Line]:
        rows = range(len(self))[index]
        if isinstance(rows, range):
            return Chosen(self, rows)
        return Line("", *(side.row(rows).tobytes().decode() for side in self._sides))

    def __iter__(self) -> Iterator[Line]:
        return map(self.__getitem__, range(len(self)))


class LineWriter:
    """Writes pairs one by one. Raise OSError, with the folder, where there is no space."""

    def __init__(self) -> None:
        self._sides = text_writer(), text_writer()

    def add(self, *sides: str) -> None:
        """Write source and target of a line."""
        for writer, text in zip(self._sides, sides, strict=True):
            writer.add(text.encode())

    def finish(self) -> StoredLines:
        """Return all lines."""
        return StoredLines(*(writer.finish() for writer in self._sides))


def rows(mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Return the rows where a mask is true, in 4 bytes each."""
    return np.arange(len(mask), dtype=np.uint32)[mask]


def text_writer() -> RaggedWriter:
    """Return a writer of texts in UTF-8."""
    return RaggedWriter(ragged.BYTES)
