"""An ordered map over the workers of a Dask cluster, which machine.yaml names.

Dask was chosen because people run it already: on a shell, over SSH, on SLURM, Kubernetes and clouds. Each task is a
pure function of its item and of files, which travel with it, so a worker needs no shared folder and may die at any
time: its tasks run again on another one. Results come in the order of the items.
"""

import logging
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from seqkd.utils import machine_identity, sent_files
from seqkd.utils.cluster_worker import Task, deserialize, function_module, serialize
from seqkd.utils.errors import InputError

if TYPE_CHECKING:
    from distributed import Client, KilledWorker

T = TypeVar("T")
R = TypeVar("R")

CONNECT = 10.0  # seconds for an answer of the scheduler
WAIT = 60.0  # seconds for a first worker, and for a scheduler that was lost
# A worker ends when it cannot read a function that it is sent, as one of another version cannot. A text it can read:
# then it is the task that fails, and says why.
CALL = "__import__('seqkd.utils.cluster_worker', fromlist=['run']).run(task, files)"


class Cluster(NamedTuple):
    """Where the scheduler is, and whether its workers may differ from this machine."""

    address: str  # tcp://host:8786, tls://host:8786, or a scheduler file
    mixed: bool = False  # workers of another version or processor compute too, so the last bits may differ


class SharedWork(NamedTuple):
    """What a cluster's workers need besides a function and its items."""

    cluster: Cluster
    inputs: Sequence[Path] = ()  # files and folders, below this folder, that the function reads for all items
    own_inputs: Callable[[Any], Sequence[Path]] = lambda _: ()  # those for one item
    describe: Callable[[Any], str] = lambda _: "a part of the work"  # what an item is, for errors


def map_ordered(function: Callable[[T], R], items: Iterable[T], shared: SharedWork) -> Iterator[R]:
    """Yield function(item) of each item, in the order of the items, computed by the cluster's workers.

    function: importable; it reads no other files than those of shared. At most four items per worker are in work.

    A task whose worker dies runs on another one, three times; a scheduler that is lost is waited for, and what was in
    work is sent again. Raise InputError where no worker can be had, for a worker that is not what this machine is, and
    for a task that its workers died of.
    """
    remaining, pending, futures = iter(items), deque[T](), deque[Any]()
    connection = _Connection(function, shared)
    try:
        while True:
            try:
                most = 4 * max(connection.count_workers(), 1)
                pending.extend(islice(remaining, max(most - len(pending), 0)))
                futures.extend(map(connection.submit, islice(pending, len(futures), None)))
                if not pending:
                    return
                result = connection.result(futures[0], shared.describe(pending[0]))
            except _LostSchedulerError:
                connection.renew()
                futures.clear()
                continue
            pending.popleft()
            futures.popleft()
            yield result
    finally:
        connection.close()


class _LostSchedulerError(Exception):
    pass


class _Connection:
    """A client of the scheduler, with the files of all tasks."""

    def __init__(self, function: Callable[[Any], Any], shared: SharedWork) -> None:
        self.address, self.function, self.shared = shared.cluster.address, function, shared
        self.common = sent_files.read(shared.inputs)
        self.folder = sent_files.digest(self.common)
        self.expected = None if shared.cluster.mixed else machine_identity.of(function_module(function))
        self.client = connect(self.address)
        self.files = self._send_files()

    def count_workers(self) -> int:
        """Return the number of workers. Raise _LostSchedulerError while there is no scheduler."""
        if self.client.status != "running":
            raise _LostSchedulerError
        try:
            return len(self.client.scheduler_info(n_workers=-1)["workers"])
        except (OSError, KeyError) as error:  # KeyError: the client has given up, and knows of nothing
            raise _LostSchedulerError from error

    def _send_files(self) -> Any:
        """Return a future of the files. It is a task, not a scattered value, so it outlives the workers."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            return self.client.submit(dict, self.common, key=f"seqkd-files-{self.folder}")

    def submit(self, item: Any) -> Any:
        from distributed.client import ClosedClientError

        task = Task(self.function, item, sent_files.read(self.shared.own_inputs(item)), self.folder, self.expected)
        try:
            return self.client.submit(eval, CALL, {"task": serialize(task), "files": self.files}, pure=False)
        except ClosedClientError as error:
            raise _LostSchedulerError from error

    def result(self, future: Any, what: str) -> Any:
        """Return a task's result. Raise _LostSchedulerError where the scheduler does not answer any more."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError

        try:
            return deserialize(self._wait(future))
        except KilledWorker as error:
            raise died(what, error) from None
        except (FutureCancelledError, CommClosedError) as error:
            raise _LostSchedulerError from error
        except (ImportError, AttributeError, TypeError) as error:
            if where := self._other_version():
                raise InputError(
                    f"{where}: it has no seqkd, or one of another version ({error}); run pip install "
                    "'.[pipeline,cluster]' there, on the same commit as here, and start its workers again."
                ) from None
            raise

    def _wait(self, future: Any) -> Any:
        """Return a task's result; say where nobody computes it. Raise what the task did."""
        while True:
            try:
                return future.result(timeout=WAIT)
            except TimeoutError:  # a finished one may lie on a worker that does not answer now
                if future.status == "error":
                    raise
                if not self.count_workers():
                    print(f"{self.address}: the cluster has no worker; waiting for one", file=sys.stderr, flush=True)

    def _other_version(self) -> str | None:
        """Return the address of a worker that cannot read a task; None: all can."""
        from distributed.protocol.serialize import deserialize_bytes

        task = serialize(Task(self.function, None, {}, self.folder, None))
        found = self.client.run(deserialize_bytes, task, on_error="return")
        return next((address for address, result in found.items() if isinstance(result, Exception)), None)

    def renew(self) -> None:
        """Connect again, for as long as WAIT. Raise InputError where the scheduler does not come back."""
        print(f"{self.address}: the scheduler is lost; waiting for it", file=sys.stderr, flush=True)
        self.close()
        end = time.monotonic() + WAIT
        while True:
            try:
                self.client = connect(self.address)
                break
            except InputError:
                if time.monotonic() > end:
                    raise
                time.sleep(1)
        self.files = self._send_files()

    def close(self) -> None:
        with warnings.catch_warnings(), suppress(RuntimeError):  # the client may be connecting again at this moment
            warnings.simplefilter("ignore")
            self.client.close(timeout=2)  # type: ignore[no-untyped-call]


def connect(address: str) -> "Client":
    """Return a client of the scheduler at an address, or of that which a scheduler file names; it opens no port.

    Raise InputError where the package is missing, nobody listens, or no worker comes.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise InputError(
            "machine.yaml names a cluster, which needs the package distributed; run pip install '.[cluster]'."
        ) from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # it tells of a lost scheduler by a traceback
    where = {"address": address} if "://" in address else {"scheduler_file": address}
    if "://" not in address and not Path(address).exists():
        raise InputError(
            f"machine.yaml, cluster: there is no scheduler file {address}; write tcp://host:8786, or start `dask "
            f"scheduler --scheduler-file {address}`."
        )
    try:
        client = Client(**where, timeout=CONNECT, set_as_default=False, name="seqkd")  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        reason = (str(error).splitlines() or ["no answer"])[0].rstrip(".")
        raise InputError(
            f"machine.yaml, cluster: no scheduler answers at {address} ({reason}); start one with `dask scheduler`, "
            "correct the address, or take the line out to use this machine alone."
        ) from None
    try:
        client.wait_for_workers(1, timeout=WAIT)
    except TimeoutError:
        client.close(timeout=2)  # type: ignore[no-untyped-call]
        raise InputError(
            f"machine.yaml, cluster: the scheduler at {address} has no worker; start some with "
            f"`dask worker {address} --nthreads 1 --nworkers 2`."
        ) from None
    return client


def died(what: str, error: "KilledWorker") -> InputError:
    """Return the error of a work that its workers died of."""
    return InputError(
        f"{what}: the workers died of it, the last was {error.last_worker.address}; look at the workers' own messages,"
        " perhaps start fewer of them (--nworkers) as memory ran out, and run the command again."
    )
