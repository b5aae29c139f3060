"""Stages of the pipeline at work at once, each in a dvc of its own; dvc.lock as a dvc repro leaves it."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from seqkd.config import load
from seqkd.planning import stage_graph
from seqkd.planning.stage_graph import Graph
from seqkd.utils import atomic, remote_command
from seqkd.utils.errors import InputError

LOGS = Path(".dvc/tmp/grid")  # what each stage printed, and the seconds that each took
SECONDS = LOGS / "seconds.tsv"
LOCK = Path("dvc.lock")
BEFORE = LOGS / "recorded"  # the stages in dvc.lock before a run that has not ended well yet
LOOK = 0.1  # seconds between two looks at what is running
GRACE = 20.0  # seconds for a stage to save its state
DVC = (sys.executable, "-m", "dvc")
# A stage that has ended waits for another one's dvc, which may be hashing a large file.
REPRO = (*DVC, "--wait-for-lock", "repro", "--single-item")
PR_SET_PDEATHSIG = 1


class Grid:
    """Stages at work, each in a dvc of its own: DVC itself locks what two of them must not touch at once."""

    def __init__(self, graph: Graph, *, done: set[str], jobs: int) -> None:
        self.graph, self.done, self.jobs, self.machine = graph, done, jobs, load.machine()
        self.running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        self.failed: dict[str, str] = {}  # stage -> what it said
        self.seconds: dict[str, float] = {}  # of those that had something to do
        self.order = stage_graph.chains(graph, read_seconds(SECONDS) if SECONDS.exists() else {})

    def run(self) -> None:
        """Run the stages until none is left, or all that are left wait for one that failed."""
        while True:
            begun = self.done | set(self.running) | set(self.failed)
            free = stage_graph.ready(self.graph, self.done, begun=begun, order=self.order)
            new = free[: self.jobs - len(self.running)]
            for name in new:
                self._start(name, share=max(1, self.machine.processes // (len(self.running) + len(new))))
            if not self.running:
                return
            time.sleep(LOOK)
            for name, (process, _) in [*self.running.items()]:
                if process.poll() is not None:
                    self._end(name)

    def stop(self) -> None:
        """Stop what is still running, as Ctrl-C does; a training saves its state."""
        for process, _ in self.running.values():
            _signal(process, signal.SIGINT)
        end = time.monotonic() + GRACE
        for process, _ in self.running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
            _signal(process, signal.SIGKILL)
            process.wait()

    def _start(self, name: str, *, share: int) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        environment = {**os.environ, "PATH": path, load.PROCESSES: str(share)}
        if self.machine.workers:
            environment[remote_command.ELSEWHERE] = "1"
        began = time.monotonic()
        with (LOGS / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*REPRO, name],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - we have one thread
            )
        self.running[name] = process, began

    def _end(self, name: str) -> None:
        process, began = self.running.pop(name)
        told = (LOGS / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        if process.returncode:
            self.failed[name] = reason = _reason(told)
            print(f"{name}: failed: {reason}", file=sys.stderr, flush=True)
            return
        self.done.add(name)
        if "Running stage" in told:
            self.seconds[name] = time.monotonic() - began
            print(f"{name}: {self.seconds[name]:,.0f} seconds", flush=True)
            write_seconds(SECONDS, (read_seconds(SECONDS) if SECONDS.exists() else {}) | {name: self.seconds[name]})


def read_seconds(path: Path) -> dict[str, float]:
    """Return the seconds of each stage. Raise InputError, with the line, where the table is none."""
    found: dict[str, float] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            name, seconds = line.split("\t")
            found[name] = float(seconds)
            if not 0 <= found[name] < float("inf"):
                raise ValueError
        except ValueError:
            raise InputError(f"{path}, line {number}: write a stage, a tab and its seconds, not {line!r}.") from None
    return found


def write_seconds(path: Path, seconds: dict[str, float]) -> None:
    """Write what read_seconds reads."""
    with atomic.open_text(path) as file:
        file.writelines(f"{name}\t{each:.1f}\n" for name, each in seconds.items())


def run_dvc(*arguments: str) -> str:
    """Return what a dvc command prints. Raise InputError with its last line where it fails."""
    done = subprocess.run([*DVC, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(_reason(done.stderr))
    return done.stdout


def _reason(told: str) -> str:
    """Return the sentence of a stage that failed, or else of dvc."""
    lines = [line for line in told.splitlines() if line.startswith(("seqkd ", "ERROR: "))]
    return (lines or told.splitlines() or ["it said nothing"])[0].removeprefix("ERROR: ").rstrip(".") + "."


def recorded_before() -> list[str]:
    """Return the stages that dvc.lock had before this run, or before the first of those that it goes on from."""
    if not BEFORE.exists():
        with atomic.open_text(BEFORE) as file:
            file.writelines(f"{_name(block)}\n" for block in _blocks()[1:])
    return BEFORE.read_text(encoding="utf-8").splitlines()


def _blocks() -> list[str]:
    """Return dvc.lock as its head and a text for each stage."""
    return re.split(r"^(?=  \S)", LOCK.read_text(encoding="utf-8") if LOCK.exists() else "", flags=re.MULTILINE)


def _name(block: str) -> str:
    return block.partition("\n")[0].strip().removesuffix(":").strip("'\"")


def put_in_order(before: Iterable[str]) -> None:
    """Write dvc.lock in the order of a dvc repro, which appends new stages one after the other."""
    head, *blocks = _blocks()
    new = [_name(block) for block in blocks if _name(block) not in set(before)]
    if len(new) < 2 or not blocks[-1].endswith("\n"):
        return
    serial = re.findall(r"^Running stage '([^']+)':", run_dvc("repro", "--dry", "--force"), re.MULTILINE)
    places = {name: place for place, name in enumerate([*before, *(name for name in serial if name in new)])}
    in_order = sorted(blocks, key=lambda block: places.get(_name(block), len(places)))
    if in_order != blocks:
        with atomic.open_text(LOCK) as file:
            file.write(head + "".join(in_order))


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Send a signal to a dvc and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _end_with_parent() -> None:
    """Let the kernel end this dvc when the process that started it has ended, however it did; its stage then ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # dvc ignores SIGINT while a stage runs
