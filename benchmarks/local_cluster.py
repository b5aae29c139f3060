"""A Dask cluster on this machine: a scheduler and workers in processes of their own, perhaps on a network of their own.

Each starts a session, so that it can be killed with all that it started.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.namespaces import Network

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
    "OMP_NUM_THREADS": "1",
    "DASK_CONFIG": str(ROOT / "examples" / "dask.yaml"),
}
START = 60.0  # seconds for a scheduler to listen
PORT = 8786  # of the scheduler in a network of its own
Process = subprocess.Popen[bytes]


class Local:
    """A scheduler and its workers; stack ends them.

    environment: variables for all of them, such as Dask's settings; network: gives each host an address of its own.
    """

    def __init__(
        self, folder: Path, *, environment: Mapping[str, str] | None = None, network: Network | None = None
    ) -> None:
        self.folder, self.log, self.stack, self.network = folder, folder / "log", ExitStack(), network
        self.environment = os.environ | ENVIRONMENT | dict(environment or {})
        self.host, self.port = "127.0.0.1", free_port()
        if network:
            self.host, self.port = network.add("scheduler"), PORT
        self.address = f"tcp://{self.host}:{self.port}"
        try:
            self.scheduler = self.start_scheduler()
        except BaseException:  # the caller has no stack to leave yet
            self.stack.close()
            raise

    def start(self, module: str, *arguments: str, host: str = "", limit: str = "") -> Process:
        """Start a module of Dask's command line. host: of the network; limit: shell commands that go before."""
        command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"]
        if limit:
            command = ["bash", "-c", f'{limit} exec "$@"', "bash", *command]
        if self.network and host:
            command = self.network.command(host, command)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.stack.callback(kill, process)
        return process

    def start_scheduler(self) -> Process:
        """Start the scheduler and return when it listens. Raise AssertionError with the log where it does not."""
        known = self.log.read_bytes().count(b"Scheduler at:") if self.log.exists() else 0
        process = self.start("dask_scheduler", "--host", self.host, "--port", str(self.port), host="scheduler")
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and process.poll() is None:
            if self.log.read_bytes().count(b"Scheduler at:") > known:
                return process
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def start_worker(
        self, *, threads: int = 1, nanny: bool = False, memory: str = "0", host: str = "", limit: str = ""
    ) -> Process:
        """Start a worker. nanny: with Dask's own process that starts it again when it dies; memory: 0 is no limit."""
        scratch = self.folder / f"worker{time.monotonic_ns()}"
        arguments = ["--nthreads", str(threads), "--nanny" if nanny else "--no-nanny", "--memory-limit", memory]
        # A worker whose nanny is ended while both start would wait for a scheduler for ever.
        arguments += ["--local-directory", str(scratch), "--death-timeout", "30"]
        return self.start("dask_worker", self.address, *arguments, host=host, limit=limit)

    def start_trainer(self) -> Process:
        """Start a worker that may train, as `seqkd grid` wants them."""
        return self.start("dask_worker", self.address, "--nthreads", "1", "--no-nanny", "--resources", "training=1")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def kill(process: Process) -> None:
    """Kill a process and all of its session, without a warning."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
