"""An ordered map over one-thread processes."""

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from queue import Queue
from typing import TypeVar

from seqkd.utils import process_control
from seqkd.utils.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


def map_ordered(function: Callable[[T], R], items: Iterable[T], *, processes: int) -> Iterator[R]:
    """function(item) of each item, in the items' order, from so many processes; one: within this process.

    At most four items a process are under way: a process that a neighbour slows down does not soon hold the others up,
    and neither items nor results pile up. An exception of a worker is raised here as it is, and stops the others.
    Raises InputError where a worker was killed.
    """
    if processes == 1:
        yield from map(function, items)
        return
    with _pool(processes) as executor:
        waiting: deque[Future[R]] = deque()
        queue = iter(items)
        waiting.extend(executor.submit(function, item) for item in islice(queue, 4 * processes))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(executor.submit(function, item) for item in islice(queue, 1))
            yield result


def map_streamed(function: Callable[[T], R], items: Iterable[T], *, processes: int) -> Iterator[R]:
    """`ordered` for items that come when they come: no result waits for the next item.

    With several processes a thread of this one takes the items.
    """
    if processes == 1:
        yield from map(function, items)
        return
    with _pool(processes) as executor:
        executor.submit(os.getpid).result()  # the processes fork here, where there is no second thread
        waiting: Queue[Future[R] | None] = Queue(2 * processes)
        threading.Thread(target=_feed, args=(executor, function, items, waiting), daemon=True).start()
        while (future := waiting.get()) is not None:
            yield future.result()


def _feed(
    executor: Executor, function: Callable[[T], R], items: Iterable[T], waiting: "Queue[Future[R] | None]"
) -> None:
    """Puts every item's future into waiting, an exception of the items in its place, and None at the end."""
    try:
        for item in items:
            waiting.put(executor.submit(function, item))
    except BaseException as error:
        failed: Future[R] = Future()
        failed.set_exception(error)
        waiting.put(failed)
    waiting.put(None)


@contextmanager
def _pool(processes: int) -> Iterator[Executor]:
    """Worker processes, stopped at once where an exception leaves the block."""
    # Forked workers share what is loaded; elsewhere than on Linux the system's libraries do not survive a fork.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(processes, mp_context=context, initializer=process_control.exit_with_parent)
    try:
        yield executor
    except BaseException as error:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        if isinstance(error, BrokenProcessPool):
            raise InputError(
                "a worker process was killed, perhaps for want of memory; run the command again, with fewer processes"
                " in machine.yaml if that does not help."
            ) from None
        raise
    finally:
        executor.shutdown(cancel_futures=True)


__all__ = ["map_ordered", "map_streamed"]
