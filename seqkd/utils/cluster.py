"""An ordered map over the workers of a Dask cluster, which machine.yaml names.

Dask was chosen because people run it already: on a shell, over SSH, on SLURM, Kubernetes and clouds. Each task is a
pure function of its item and of files, which travel with it, so a worker needs no shared folder and may die at any
time: its tasks run again on another one. Results come in the order of the items.
"""

import hashlib
import logging
import os
import platform
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from seqkd.utils import fingerprint
from seqkd.utils.errors import FULL, InputError

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
R = TypeVar("R")

CONNECT = 10.0  # seconds for an answer of the scheduler
WAIT = 60.0  # seconds for a first worker, and for a scheduler that was lost
PACKAGES = ("numpy", "numba", "llvmlite", "torch", "sentencepiece", "sacrebleu")  # those that compute results
FOLDER = "seqkd"  # of the files that travelled, in a worker's scratch folder

Files = dict[str, bytes]  # path, as the tasks name it -> content
Identity = dict[str, str]  # what decides a result's bits -> what a machine has


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


class Task(NamedTuple):
    """What a worker gets besides the files of all tasks."""

    function: Callable[[Any], Any]
    item: Any
    files: Files  # of this item alone
    folder: str  # the name of the folder for the files of all tasks
    expected: Identity | None  # what the worker must be; None: anything


def map_ordered(function: Callable[[T], R], items: Iterable[T], shared: SharedWork) -> Iterator[R]:
    """Yield function(item) of each item, in the order of the items, computed by the cluster's workers.

    function: importable; it reads no other files than those of shared. At most four items per worker are in work.

    A task whose worker dies runs on another one, three times; a scheduler that is lost is waited for, and what was in
    work is sent again. Raise InputError where no worker can be had, for a worker that is not what this machine is, and
    for a task that its workers died of.
    """
    remaining, pending, common = iter(items), deque[tuple[T, Any]](), read(shared.inputs)
    expected = None if shared.cluster.mixed else identity(function_module(function))
    folder, connection = digest(common), _Connection(shared.cluster.address, common)

    def submitted(item: T) -> tuple[T, Any]:
        return item, connection.submit(Task(function, item, read(shared.own_inputs(item)), folder, expected))

    try:
        while True:
            pending.extend(map(submitted, islice(remaining, max(4 * connection.workers - len(pending), 0))))
            if not pending:
                return
            item, future = pending[0]
            try:
                result = connection.result(future, shared.describe(item))
            except _LostSchedulerError:
                connection.renew()
                pending = deque(submitted(each) for each, _ in pending)
            else:
                pending.popleft()
                yield result
    finally:
        connection.close()


class _LostSchedulerError(Exception):
    pass


class _Connection:
    """A client of the scheduler, with the files of all tasks."""

    def __init__(self, address: str, common: Files) -> None:
        self.address, self.common = address, common
        self.client = connect(address)
        self.files = self._send_files()

    @property
    def workers(self) -> int:
        return max(len(self.client.scheduler_info(n_workers=-1)["workers"]), 1)

    def _send_files(self) -> Any:
        """Return a future of the files. It is a task, not a scattered value, so it outlives the workers."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            return self.client.submit(_itself, self.common, key=f"seqkd-files-{digest(self.common)}")

    def submit(self, task: Task) -> Any:
        return self.client.submit(run, task, self.files, pure=False)

    def result(self, future: Any, what: str) -> Any:
        """Return a task's result. Raise _LostSchedulerError where the scheduler does not answer any more."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError

        try:
            return future.result()
        except KilledWorker as error:
            raise InputError(
                f"{what}: the workers died of it, the last was {error.last_worker.address}; look at the workers' own "
                "messages, perhaps they lack memory, and run the command again."
            ) from None
        except ModuleNotFoundError as error:
            raise InputError(
                f"{self.address}: a machine of the cluster lacks {error.name}; run pip install '.[pipeline,cluster]' "
                "on all of them, on the same commit, and start scheduler and workers again."
            ) from None
        except (FutureCancelledError, CommClosedError, TimeoutError) as error:
            raise _LostSchedulerError from error

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
        with warnings.catch_warnings():
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
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it tells of a lost scheduler by a traceback
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


def run(task: Task, common: Files) -> Any:
    """Compute a task's function of its item, on a worker, in a folder that holds the task's files."""
    from distributed import get_worker

    worker = get_worker()
    host = platform.node() or worker.address
    if worker.state.nthreads != 1:
        raise InputError(
            f"{host}: the worker has {worker.state.nthreads} threads; start it with --nthreads 1, and --nworkers for "
            "more than one."
        )
    check(task.expected, identity(function_module(task.function)), host=host)
    folder = Path(worker.local_directory).absolute() / FOLDER / task.folder
    before = Path.cwd()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, common)
        write(folder, task.files)
        os.chdir(folder)
        return task.function(task.item)
    except OSError as error:
        if error.errno not in FULL:
            raise
        size = sum(map(len, (common | task.files).values())) / 1e6
        raise InputError(
            f"{host}: no space for the {size:,.0f} MB of the work's files in {folder}; make room there, or start the "
            "worker with another --local-directory."
        ) from None
    finally:
        os.chdir(before)
        for name in task.files:
            (folder / name).unlink(missing_ok=True)


def check(expected: Identity | None, found: Identity, *, host: str) -> None:
    """Raise InputError, with the machine's name, for a worker that would compute other bits."""
    if expected is None or found == expected:
        return
    name = next(name for name in expected if found.get(name) != expected[name])
    raise InputError(
        f"{host}: its {name} is {found.get(name)}, here it is {expected[name]}, so results would differ; make the "
        "two the same, or set mixed: true in machine.yaml to accept other last bits."
    )


@cache
def identity(module: str) -> Identity:
    """Return what decides the bits that a function of a module computes: code, packages, processor."""
    found = {"version of seqkd's code": fingerprint.of(module) if module.startswith("seqkd.") else module}
    found |= {f"version of {name}": version(name) for name in PACKAGES}
    from llvmlite import binding

    features = sorted(name for name, has in binding.get_host_cpu_features().items() if has)
    arithmetic = hashlib.blake2b(" ".join(features).encode(), digest_size=4).hexdigest()
    return found | {"processor": f"{binding.get_host_cpu_name()} ({arithmetic})"}


def function_module(function: Callable[..., Any]) -> str:
    """Return the name of the module of a function, also of a partial one."""
    return str(getattr(getattr(function, "func", function), "__module__", ""))


def read(paths: Iterable[Path]) -> Files:
    """Return the content of files, and of the files in folders. Raise InputError for a path outside this folder."""
    files: Files = {}
    for path in paths:
        for each in sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]:
            if each.is_absolute() or ".." in each.parts:
                raise InputError(f"{each}: only files below this folder can be sent to a cluster's workers.")
            files[str(each)] = each.read_bytes()
    return files


def write(folder: Path, files: Files) -> None:
    """Write files into a folder unless they are there; a file is whole or absent."""
    for name, content in files.items():
        path = folder / name
        if not (path.exists() and path.stat().st_size == len(content)):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{os.getpid()}")
            try:
                partial.write_bytes(content)
                partial.replace(path)
            except OSError:
                partial.unlink(missing_ok=True)
                raise


def digest(files: Files) -> str:
    """Return 32 hexadecimal digits of the names and contents of files."""
    content = hashlib.blake2b(digest_size=16)
    for name, data in sorted(files.items()):
        content.update(f"{name} {len(data)}\n".encode())
        content.update(data)
    return content.hexdigest()


def _itself(files: Files) -> Files:
    return files
