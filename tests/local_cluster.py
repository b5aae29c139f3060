"""A Dask cluster on this machine for tests: a scheduler and workers in processes of their own."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from source_tree import ROOT

PATHS = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
# A task is given up after one death, not four, and nothing waits for a slow answer.
QUICK = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1", "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}


class Local:
    """A scheduler and its workers on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file, self.stack = folder, folder / "scheduler.json", ExitStack()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler = self.start_scheduler()

    def start(self, *arguments: str, limit: str = "") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:], "--no-dashboard"]
        shell = ["bash", "-c", f'{limit} exec "$@"', "bash"] if limit else []
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                shell + command, env=os.environ | QUICK, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.stack.callback(kill, process)
        return process

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        process = self.start("dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return process
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def start_worker(self, *, threads: int = 1, limit: str = "") -> subprocess.Popen[bytes]:
        folder = self.folder / f"worker{time.monotonic_ns()}"
        arguments = ["--nthreads", str(threads), "--no-nanny", "--local-directory", str(folder)]
        return self.start("dask_worker", self.address, *arguments, limit=limit)

    def start_trainer(self) -> subprocess.Popen[bytes]:
        """A worker that may train, as `seqkd grid` wants them."""
        return self.start("dask_worker", self.address, "--nthreads", "1", "--no-nanny", "--resources", "training=1")


def kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
