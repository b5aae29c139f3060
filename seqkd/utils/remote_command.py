"""One command on a worker of the Dask cluster, in a folder that its machine shares with this one.

So a training under DVC computes elsewhere: DVC starts and records it here, its inputs, saved state and outs lie in the
shared folder, and another machine can go on where a lost one stopped.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from seqkd.utils import cluster, machine_identity, process_control, torchrun
from seqkd.utils.cluster import Cluster
from seqkd.utils.errors import InputError
from seqkd.utils.machine_identity import Identity

ELSEWHERE = "SEQKD_ELSEWHERE"  # set by `seqkd grid` where machine.yaml names a cluster
TRAININGS = {"train", "distill", "finetune", "prune"}  # stages; all others either divide their lines or are short
RESOURCE = "training"  # `dask worker --resources training=1`: one worker a machine, whose cores a training takes
POLL = 0.5  # seconds
SHOWN = 20_000  # characters of what the command printed, its last ones


class Command(NamedTuple):
    """What a worker is to start."""

    arguments: list[str]  # of the worker's own Python
    folder: str
    stage: str  # as DVC names it; "": no stage
    expected: Identity | None  # what the worker must be; None: anything


def wanted(name: str) -> bool:
    """Return whether a stage is to run on a worker."""
    return name in TRAININGS and ELSEWHERE in os.environ


def run(arguments: list[str], workers: Cluster) -> int:
    """Run Python with arguments on a worker with the resource, print what it printed, and return its exit code.

    It is stopped where this process ends. A worker that dies is replaced by another one, three times. Raise InputError
    where there is no such worker, its machine lacks this folder or is not what this one is, or the scheduler is lost.
    """
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError

    stage = os.environ.get(process_control.STAGE_VARIABLE, "")
    expected = None if workers.mixed else machine_identity.of(None)
    client = cluster.connect(workers.address)
    try:
        where = workers.address if "://" in workers.address else f"--scheduler-file {workers.address}"
        there = client.scheduler_info(n_workers=-1)["workers"].values()
        if not any(RESOURCE in (worker.get("resources") or {}) for worker in there):
            raise InputError(
                f"{workers.address}: no worker may train; start one on each machine with `dask worker "
                f"{where} --nthreads 1 --resources {RESOURCE}=1`."
            )
        command = Command(arguments, str(Path.cwd()), stage, expected)
        future = client.submit(execute, command, resources={RESOURCE: 1}, pure=False)
        code, host, told = future.result()
        print(f"on {host}:\n{told}", file=sys.stderr, end="", flush=True)
        return int(code)
    except KilledWorker as error:
        raise cluster.died(stage or " ".join(arguments), error) from None
    except (FutureCancelledError, CommClosedError, TimeoutError):
        raise InputError(f"{workers.address}: the scheduler is lost; start it and run the command again.") from None
    finally:
        client.close(timeout=2)  # type: ignore[no-untyped-call]


def execute(command: Command) -> tuple[int, str, str]:
    """Run a command on a worker; return its exit code, the machine's name and the end of what it printed.

    Raise InputError, with the machine's name, where the machine lacks the folder or would compute other bits.
    """
    from distributed import get_worker

    worker, host = get_worker(), platform.node()
    folder, key = Path(command.folder), worker.get_current_task()
    if not (folder / "params.yaml").exists():
        raise InputError(
            f"{host}: there is no {folder}/params.yaml; trainings on several machines need one folder that all of them "
            "see under the same path, such as one on NFS."
        )
    machine_identity.check(command.expected, machine_identity.of(None), host=host)
    environment = {name: value for name, value in os.environ.items() if name != ELSEWHERE}
    if command.stage:  # so the command ends when this worker does
        environment[process_control.STAGE_VARIABLE] = command.stage
    with tempfile.TemporaryFile() as log:
        argv = [sys.executable, *command.arguments]
        process = subprocess.Popen(argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while process.poll() is None:
            task = worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":  # whoever wanted it is gone
                torchrun.stop(process)
            time.sleep(POLL)
        log.seek(0)
        return process.returncode, host, log.read().decode("utf-8", "replace")[-SHOWN:]
