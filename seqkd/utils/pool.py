"""An ordered map over processes of one thread each."""

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache, wraps
from itertools import islice
from pathlib import Path
from queue import Queue
from typing import Any, TypeVar

from seqkd.utils import cluster, process_control
from seqkd.utils.cluster import SharedWork
from seqkd.utils.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


def map_ordered(
    function: Callable[[T], R], items: Iterable[T], *, processes: int, shared: SharedWork | None = None
) -> Iterator[R]:
    """Yield function(item) of each item, in the order of the items. With one process: in this one.

    shared: what the workers of a cluster need to do the work in place of processes here; None: there is no cluster.

    At most four items per process are in work: enough that one slow process does not soon hold up the others, and few
    enough that neither items nor results pile up. A worker's exception is raised here and stops the other workers.
    Raise InputError where a worker was killed.
    """
    if shared:
        yield from cluster.map_ordered(function, items, shared)
        return
    if processes == 1:
        yield from map(function, items)
        return
    with workers(processes) as executor:
        pending: deque[Future[R]] = deque()
        remaining = iter(items)
        pending.extend(executor.submit(function, item) for item in islice(remaining, 4 * processes))
        while pending:
            result = pending.popleft().result()
            pending.extend(executor.submit(function, item) for item in islice(remaining, 1))
            yield result


def map_streamed(function: Callable[[T], R], items: Iterable[T], *, processes: int) -> Iterator[R]:
    """Yield as map_ordered does, for items that arrive slowly: no result waits for the next item.

    With several processes a thread of this one reads the items.
    """
    if processes == 1:
        yield from map(function, items)
        return
    with workers(processes) as executor:
        executor.submit(os.getpid).result()  # fork the workers now, before there is a second thread
        pending: Queue[Future[R] | None] = Queue(2 * processes)
        threading.Thread(target=_submit_all, args=(executor, function, items, pending), daemon=True).start()
        while (future := pending.get()) is not None:
            yield future.result()


def _submit_all(
    executor: Executor, function: Callable[[T], R], items: Iterable[T], pending: "Queue[Future[R] | None]"
) -> None:
    """Put a future of each item into pending, then None; where reading the items fails, a future with the exception."""
    try:
        for item in items:
            pending.put(executor.submit(function, item))
    except BaseException as error:
        failed: Future[R] = Future()
        failed.set_exception(error)
        pending.put(failed)
    pending.put(None)


def loaded_once(load: Callable[..., R]) -> Callable[..., R]:
    """Return a function that keeps what it loaded last in this process, for calls with the same arguments.

    A relative path among these is another one in another working folder: a cluster's worker has one for each work.
    """

    @lru_cache(maxsize=1)
    def load_in(folder: Path, *arguments: Any) -> R:
        return load(*arguments)

    @wraps(load)
    def loaded(*arguments: Any) -> R:
        return load_in(Path.cwd(), *arguments)

    return loaded


@contextmanager
def workers(processes: int) -> Iterator[Executor]:
    """Yield an executor of worker processes, which are killed where an exception leaves the block."""
    # Forked workers share the loaded modules. On other systems than Linux their libraries do not survive a fork.
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
                "a worker process was killed, perhaps for lack of memory; run the command again, with fewer processes"
                " in machine.yaml if that does not help."
            ) from None
        raise
    finally:
        executor.shutdown(cancel_futures=True)
