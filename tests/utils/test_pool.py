import multiprocessing
import os
from collections.abc import Iterator

import pytest

from seqkd.utils import pool
from seqkd.utils.errors import InputError


def _square(number: int) -> int:
    return number * number


def _process(_: int) -> int:
    return os.getpid()


def _refuse(number: int) -> int:
    if number == 3:
        raise InputError("line 3 is broken.")
    return number


def _die(_: int) -> int:
    os._exit(1)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_map_ordered_yields_results_in_the_order_of_the_items(processes: int) -> None:
    assert list(pool.map_ordered(_square, range(20), processes=processes)) == [number * number for number in range(20)]


def test_map_ordered_with_one_process_runs_in_this_one() -> None:
    assert set(pool.map_ordered(_process, range(3), processes=1)) == {os.getpid()}
    assert os.getpid() not in set(pool.map_ordered(_process, range(3), processes=2))


@pytest.mark.parametrize("processes", [1, 2])
def test_map_ordered_raises_the_exception_of_a_worker(processes: int) -> None:
    with pytest.raises(InputError, match=r"^line 3 is broken\.$"):
        list(pool.map_ordered(_refuse, range(10), processes=processes))
    assert not multiprocessing.active_children()


def test_map_ordered_refuses_to_wait_for_a_killed_worker() -> None:
    with pytest.raises(InputError, match="a worker process was killed"):
        list(pool.map_ordered(_die, range(4), processes=2))


def test_map_ordered_reads_items_only_as_they_are_needed() -> None:
    read = []

    def items() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    results = pool.map_ordered(_square, items(), processes=2)
    assert [next(results), next(results)] == [0, 1]
    assert len(read) <= 10
    results.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()
