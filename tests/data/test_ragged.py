import errno
import pickle
from pathlib import Path

import numpy as np
import pytest

from seqkd.data import ragged
from seqkd.data.ragged import RaggedArray, RaggedWriter
from seqkd.utils import scratch

ROWS = [[3, 70_000, 5], [], [7], [8, 9]]


def written() -> RaggedArray:
    writer = RaggedWriter(ragged.INT)
    for row in ROWS:
        writer.add(row)
    return writer.finish()


@pytest.mark.parametrize("rows", [RaggedArray.of(ROWS), written()], ids=["in memory", "on the disk"])
def test_ragged_array_gives_back_rows_slices_and_lengths(rows: RaggedArray) -> None:
    assert list(rows) == ROWS == [rows[index] for index in range(4)]
    assert rows[-1] == [8, 9]
    assert (len(rows), len(rows[1:3]), len(rows[3:1])) == (4, 2, 0)
    assert list(rows[1:]) == ROWS[1:]
    assert rows[2:].flat.tolist() == [7, 8, 9]
    assert rows.lengths().tolist() == [3, 0, 1, 2]
    assert rows[1:].lengths([2, 0]).tolist() == [2, 0]
    with pytest.raises(IndexError):
        rows[4]
    assert list(pickle.loads(pickle.dumps(rows))) == ROWS


def test_ragged_writer_writes_more_ends_than_it_buffers_and_refuses_numbers_too_large_for_its_kind() -> None:
    writer = RaggedWriter(ragged.SHORT)
    for row in range(3 * ragged.BUFFERED):
        writer.add([row] * (row % 3))
    rows = writer.finish()
    assert rows[ragged.BUFFERED + 1] == [ragged.BUFFERED + 1] * ((ragged.BUFFERED + 1) % 3)
    assert len(rows) == 3 * ragged.BUFFERED
    assert rows.values.dtype == np.uint16
    with pytest.raises(OverflowError):
        RaggedWriter(ragged.SHORT).add([1 << 16])


def test_ragged_writer_of_nothing_is_empty() -> None:
    assert len(RaggedWriter(ragged.BYTES).finish()) == 0


def test_ragged_writer_names_the_folder_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "open_file", lambda: Path("/dev/full").open("wb", buffering=0))  # noqa: SIM115
    writer = RaggedWriter(ragged.BYTES)
    with pytest.raises(OSError, match=scratch.folder()) as told:
        writer.add(b"text" * ragged.BUFFERED)
    assert told.value.errno == errno.ENOSPC


def test_pickle_of_some_rows_holds_these_alone() -> None:
    rows = RaggedArray.of([[number] * 100 for number in range(50)])
    packed = pickle.dumps(rows[10:12])
    assert len(packed) < 2000
    assert list(pickle.loads(packed)) == [[10] * 100, [11] * 100]
