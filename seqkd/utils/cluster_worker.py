"""A task of `cluster.map_ordered`, on a worker."""

import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from seqkd.utils import machine_identity, sent_files
from seqkd.utils.errors import FULL, InputError, describe_os_error, is_out_of_memory
from seqkd.utils.machine_identity import Identity
from seqkd.utils.sent_files import Files

FOLDER = "seqkd"  # of the files that travelled, in a worker's scratch folder


class Task(NamedTuple):
    """What a worker gets besides the files of all tasks."""

    function: Callable[[Any], Any]
    item: Any
    files: Files  # of this item alone
    folder: str  # the name of the folder for the files of all tasks
    expected: Identity | None  # what the worker must be; None: anything


def serialize(value: Any) -> bytes:
    """Return a value as Dask sends one: of anything but bytes it looks at each element, more than once."""
    from distributed.protocol.serialize import serialize_bytes

    return serialize_bytes(value, serializers=["pickle"])  # Dask's own for arrays fail for bfloat16 and float16


def deserialize(content: bytes) -> Any:
    """Return the value of `serialize`."""
    from distributed.protocol.serialize import deserialize_bytes

    return deserialize_bytes(content)


def run(serialized: bytes, common: Files) -> bytes:
    """Compute a task's function of its item, on a worker, in a folder that holds the task's files.

    Return the result serialized.
    """
    from distributed import get_worker

    task: Task = deserialize(serialized)
    worker = get_worker()
    host = platform.node() or worker.address
    if worker.state.nthreads != 1:
        raise InputError(
            f"{host}: the worker has {worker.state.nthreads} threads; start it with --nthreads 1, and --nworkers for "
            "more than one."
        )
    machine_identity.check(task.expected, machine_identity.of(function_module(task.function)), host=host)
    scratch = Path(worker.local_directory).absolute() / FOLDER
    folder, before = scratch / task.folder, Path.cwd()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for other in set(scratch.iterdir()) - {folder}:  # of earlier work
            shutil.rmtree(other, ignore_errors=True)
        sent_files.write(folder, common)
        sent_files.write(folder, task.files)
        os.chdir(folder)
        return serialize(task.function(task.item))
    except (OSError, MemoryError, RuntimeError) as error:
        if sentence := _refused(error, folder, common | task.files):
            raise InputError(f"{host}: {sentence}") from None
        raise
    finally:
        os.chdir(before)
        for name in task.files:
            (folder / name).unlink(missing_ok=True)


def _refused(error: Exception, folder: Path, files: Files) -> str | None:
    """Return what a worker's system refused, with the remedy, as one sentence; None: it is no fault of the system."""
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            f"no space for the {sum(map(len, files.values())) / 1e6:,.0f} MB of the work's files in {folder}; make "
            "room there, or start the worker with another --local-directory."
        )
    if is_out_of_memory(error):
        return "memory ran out; start fewer workers there (--nworkers), or raise their limit (ulimit -v)."
    return describe_os_error(error) if isinstance(error, OSError) else None


def function_module(function: Callable[..., Any]) -> str:
    """Return the name of the module of a function, also of a partial one."""
    return str(getattr(getattr(function, "func", function), "__module__", ""))
