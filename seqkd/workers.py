"""An ordered map over one-thread processes."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered(function: Callable[[T], R], items: Iterable[T], *, processes: int) -> Iterator[R]:
    """function(item) of each item, in the items' order, from so many processes; one: within this process.

    At most two items a process are under way, so neither items nor results pile up. An exception of a worker is raised
    here as it is, and stops the others.
    """
    if processes == 1:
        yield from map(function, items)
        return
    # Forked workers share what is loaded; elsewhere than on Linux the system's libraries do not survive a fork.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(processes, mp_context=context, initializer=_start)
    waiting: deque[Future[R]] = deque()
    queue = iter(items)
    try:
        waiting.extend(executor.submit(function, item) for item in islice(queue, 2 * processes))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(executor.submit(function, item) for item in islice(queue, 1))
            yield result
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _start() -> None:
    """A worker leaves interrupts to its parent and ends with it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


__all__ = ["ordered"]
