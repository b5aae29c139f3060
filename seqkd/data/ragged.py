"""Columns of numbers, and rows of different lengths: the pieces of sentences, or the bytes of texts.

In files that are mapped into memory they cost a process nothing that the system cannot take back, and all processes of
a machine share them.
"""

import mmap
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from seqkd.utils import scratch

BYTES, SHORT, INT, LONG = "B", "H", "i", "q"  # kinds of numbers, of 1, 2, 4 and 8 bytes
BUFFERED = 1 << 14  # numbers that are written together

Integers = NDArray[np.int64]


class RaggedArray:
    """Rows of numbers, one after the other."""

    def __init__(self, values: NDArray[Any], ends: Integers) -> None:
        self.values = values
        self.ends = ends  # (rows + 1,): where row 0 begins, then where each row ends

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> Self:
        """Return rows in memory."""
        values, ends = array(INT), [0]
        for row in rows:
            values.extend(row)
            ends.append(len(values))
        return cls(np.frombuffer(values, np.intc) if values else np.empty(0, np.intc), np.array(ends))

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: int) -> list[int]: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> list[int] | Self:
        """Return a row as a list, or neighbouring rows as an array that shares the memory."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            assert step == 1, "rows of a slice are neighbours"
            return type(self)(self.values, self.ends[start : max(start, stop) + 1])
        return self.row(range(len(self))[index]).tolist()  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[list[int]]:
        return (self.row(index).tolist() for index in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a pickle hold these rows alone: a slice shares the numbers of all."""
        return type(self), (self.flat, self.ends - self.ends[0])

    def row(self, index: int) -> NDArray[Any]:
        """Return a row, without a copy. index: from 0 on."""
        return self.values[self.ends[index] : self.ends[index + 1]]

    def lengths(self, rows: Sequence[int] | NDArray[Any] | None = None) -> Integers:
        """Return the lengths of these rows, or of all."""
        if rows is None:
            return np.diff(self.ends)
        chosen = np.asarray(rows, np.int64)
        return np.asarray(self.ends[chosen + 1] - self.ends[chosen])

    @property
    def flat(self) -> NDArray[Any]:
        """The numbers of all rows, (numbers,)."""
        return self.values[self.ends[0] : self.ends[-1]]


class ColumnWriter:
    """Writes numbers of a kind into a file without a name. Raise OSError, with its folder, where there is no space."""

    def __init__(self, kind: str) -> None:
        self._file, self._buffer = scratch.open_file(), array(kind)

    def append(self, number: int) -> None:
        """Write another number."""
        self._buffer.append(number)
        if len(self._buffer) >= BUFFERED:
            self._flush()

    def extend(self, numbers: bytes | Sequence[int]) -> None:
        """Write some more numbers. bytes: of a column of bytes."""
        if isinstance(numbers, bytes):
            self._buffer.frombytes(numbers)
        else:
            self._buffer.extend(numbers)
        if len(self._buffer) >= BUFFERED:
            self._flush()

    def finish(self) -> NDArray[Any]:
        """Return all numbers, in a file that is mapped into memory; it goes with the array."""
        dtype = np.dtype(self._buffer.typecode)
        self._flush()
        with self._file as file:
            file.flush()
            if not file.tell():
                return np.empty(0, dtype)
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype)

    def _flush(self) -> None:
        try:
            self._file.write(self._buffer)
        except OSError as error:
            error.filename = scratch.folder()
            raise
        del self._buffer[:]


class RaggedWriter:
    """Writes rows one by one into files without a name. Raise OSError, with their folder, where there is no space."""

    def __init__(self, kind: str) -> None:
        self._values, self._ends, self._end = ColumnWriter(kind), ColumnWriter(LONG), 0
        self._ends.append(0)

    def add(self, row: bytes | Sequence[int]) -> None:
        """Write another row."""
        self._values.extend(row)
        self._end += len(row)
        self._ends.append(self._end)

    def finish(self) -> RaggedArray:
        """Return all rows, in files that are mapped into memory."""
        return RaggedArray(self._values.finish(), self._ends.finish())
