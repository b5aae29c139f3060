"""Are the n-best lists of a Dask cluster whose machines die, freeze and come back those of one process?

python -m benchmarks.chaos --data FOLDER --model FOLDER --lines 20000 --beam 35 --kills 10 --namespaces
python -m benchmarks.chaos --data FOLDER --model FOLDER --lines 5000 --overhead

The first command decodes a text in one process (kept for the next run), then on three workers, by `seqkd decode` both
times. At moments drawn before, in the progress of the work, a worker or its whole machine is killed with -9, one
machine is frozen for a while, and the scheduler is killed; what ended is started again, as SLURM or systemd do. In the
end the lists must be equal byte for byte, nothing may run any more, and no work may be left on the scheduler.

The second decodes by a pool of two processes and by two workers in turn, undisturbed, and compares the medians.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

import psutil
import typer

from benchmarks import material
from benchmarks.kill import family
from benchmarks.local_cluster import ROOT, Local, Process, kill
from benchmarks.namespaces import Network
from seqkd.config import yaml_file
from seqkd.data import bitext
from seqkd.utils import cache_dir, process_control
from seqkd.utils.errors import InputError

WORKERS = 3
LOOK = 0.2  # seconds between two looks at the work
GONE = 60.0  # seconds within which everything must end that is asked to
MARK = "SEQKD_CHAOS"  # a variable that all processes of a run have
ROW, TEACHER, TEXT, OUT = "lists", Path("models/teacher"), Path("text.tsv"), Path("nbest")
LEFT_OVER = "import sys; from distributed import Client; print(len(Client(sys.argv[1]).run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))))"  # noqa: E501
What = Literal["kill worker", "kill machine", "freeze machine", "kill scheduler"]


class Event(NamedTuple):
    """What happens when so many lines are done, and so many seconds have passed since."""

    lines: int
    seconds: float
    what: What


class Run(NamedTuple):
    """How a text is decoded."""

    folder: Path
    environment: dict[str, str]
    network: Network | None = None

    def start(self) -> Process:
        command = [sys.executable, "-m", "seqkd", "decode", ROW, "--teacher", TEACHER, "--text", TEXT, "--out", OUT]
        words = [str(word) for word in command]
        words = self.network.command("client", words) if self.network else words
        environment = os.environ | self.environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(words, cwd=self.folder, env=environment, start_new_session=True)

    def seconds(self) -> float:
        """Decode the text from nothing; return how long it took."""
        self.forget()
        began = time.monotonic()
        self.finish()
        return time.monotonic() - began

    def finish(self) -> None:
        """Decode what has no list yet."""
        running = self.start()
        try:
            require_success(running)
        finally:
            kill(running)

    def forget(self) -> None:
        for name in (OUT, Path(".decoded")):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    @property
    def checksum(self) -> str:
        return cache_dir.key(self.folder / OUT / ROW)[:12]

    @property
    def lines(self) -> int:
        """How many different lines have a list so far."""
        for path in (self.folder / ".decoded").glob("*/lines-1.sqlite"):
            with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path, timeout=5)) as database:
                return int(database.execute("SELECT count(*) FROM lines").fetchone()[0])
        return 0


def require_success(running: Process) -> None:
    if code := running.wait():
        raise SystemExit(f"seqkd decode ended with {code}")


def project(folder: Path, text: Sequence[bitext.Pair], model: Path, *, beam: int, **machine: object) -> Path:
    """Make a folder in which `seqkd decode` has all that it needs; what was decoded there before stays."""
    folder.mkdir(parents=True, exist_ok=True)
    values = cast(dict[str, Any], yaml_file.read(ROOT / "params.yaml"))
    values["decode"][ROW] = {"beam": beam, "length_penalty": 1.0}
    (folder / "params.yaml").write_text(json.dumps(values), encoding="utf-8")
    (folder / "machine.yaml").write_text(json.dumps({"device": "cpu", "processes": 1, **machine}), encoding="utf-8")
    bitext.write(folder / TEXT, text)
    shutil.copytree(model, folder / TEACHER, dirs_exist_ok=True)
    return folder


def plan(lines: int, kills: int, *, pause: float, seed: int) -> list[Event]:
    """Return the events in the order of the work. pause: seconds at most between a line's end and an event."""
    lots, found = random.Random(seed), list[Event]()
    kinds: list[What] = [lots.choice(("kill worker", "kill machine")) for _ in range(kills)]
    for what in (*kinds, "freeze machine", "kill scheduler"):
        found.append(Event(int(lots.uniform(0.02, 0.9) * lines), lots.uniform(0.0, pause), what))
    return sorted(found)


@dataclass
class Machines:
    """The workers' machines, one worker on each, which are started again when they end."""

    cluster: Local
    lots: random.Random
    thaw_after: float  # seconds
    workers: dict[str, Process] = field(default_factory=dict)
    frozen: tuple[str, float] | None = None  # a host, and when it goes on
    restarts: int = 0

    def keep_up(self) -> None:
        """Start what has ended, and let a frozen machine go on when its time has come."""
        if self.cluster.scheduler.poll() is not None:
            self.cluster.scheduler = self.cluster.start_scheduler()
        for host in (f"worker{number}" for number in range(WORKERS)):
            if host not in self.workers or self.workers[host].poll() is not None:
                self.restarts += host in self.workers
                if self.cluster.network:
                    self.cluster.network.add(host)
                self.workers[host] = self.cluster.start_worker(nanny=True, host=host)
        if self.frozen and time.monotonic() > self.frozen[1]:
            self.thaw()

    def thaw(self) -> None:
        if self.frozen:
            self._signal(self.workers[self.frozen[0]], signal.SIGCONT)
            self.frozen = None

    def happen(self, what: What) -> str:
        """Do one event to a machine that is not frozen; return what was done, in words."""
        host = self.lots.choice([host for host in self.workers if not self.frozen or host != self.frozen[0]])
        if what == "kill scheduler":
            self._signal(self.cluster.scheduler, signal.SIGKILL)
            self.cluster.scheduler.wait()
            return what
        leader = self.workers[host]
        if what == "freeze machine":
            self._signal(leader, signal.SIGSTOP)
            self.frozen = host, time.monotonic() + self.thaw_after
            return f"freeze {host} for {self.thaw_after:.0f} s"
        computing = [each for each in family(leader.pid) if "spawn_main" in " ".join(each.cmdline())]
        if what == "kill worker" and computing:
            computing[-1].kill()
            return f"kill the worker on {host}; its nanny stays"
        self._signal(leader, signal.SIGKILL)
        return f"kill all on {host}"

    @staticmethod
    def _signal(leader: Process, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(leader.pid, number)

    def stop(self) -> None:
        """Ask all to end, as the end of a job does, and wait for it."""
        self.thaw()
        everyone = [*self.workers.values(), self.cluster.scheduler]
        for leader in everyone:
            leader.terminate()
        deadline = time.monotonic() + GONE
        for leader in everyone:
            with suppress(subprocess.TimeoutExpired):
                leader.wait(max(0.1, deadline - time.monotonic()))


def disturb(run: Run, machines: Machines, events: list[Event]) -> Iterator[tuple[float, int, str]]:
    """Decode the text while the events happen; yield seconds, lines that were done, and what was done, of each.

    Events that have happened are taken out of the list.
    """
    due = None
    began, running = time.monotonic(), run.start()
    try:
        while running.poll() is None:
            time.sleep(LOOK)
            machines.keep_up()
            lines, now = run.lines, time.monotonic()
            if events and due is None and lines >= events[0].lines:
                due = now + events[0].seconds
            if due is not None and now >= due:
                yield now - began, lines, machines.happen(events.pop(0).what)
                due = None
        require_success(running)
        yield time.monotonic() - began, run.lines, "the end"
    finally:
        kill(running)


def left_running(mark: str) -> list[psutil.Process]:
    """Return the processes of a run that do not end within GONE; Python's resource tracker ends after its parent."""
    deadline = time.monotonic() + GONE
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(LOOK)
    return left


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes of a run, this one aside."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def left_on_scheduler(run: Run, address: str) -> int:
    """Return how many tasks the scheduler still knows."""
    command = [sys.executable, "-c", LEFT_OVER, address]
    command = run.network.command("client", command) if run.network else command
    return int(subprocess.check_output(command, text=True).splitlines()[-1])


def read(data: Path, languages: str, lines: int) -> list[bitext.Pair]:
    """Return the first pairs of a corpus whose sources differ."""
    source, target = languages.split(",")
    distinct = {pair.source: pair for pair in material.pairs(data, (source, target)).train}
    found = [bitext.Pair(number, *pair[1:]) for number, pair in enumerate(islice(distinct.values(), lines))]
    if len(found) < lines:
        raise InputError(f"{data}: it has only {len(found):,} different lines; lower --lines.")
    return found


Data = Annotated[Path, typer.Option(help="A folder of train.en, train.de and so on.")]
ModelFolder = Annotated[Path, typer.Option(help="The model that decodes.")]
Namespaces = Annotated[bool, typer.Option(help="Each process in a network namespace of its own; needs root.")]
Delay = Annotated[float, typer.Option(help="Milliseconds that each link between the namespaces adds, each way.")]
Ttl = Annotated[float, typer.Option(help="Seconds after which the scheduler gives a frozen worker up.")]
Pause = Annotated[float, typer.Option(help="Seconds at most between the progress that brings an event and the event.")]
Keep = Annotated[Path, typer.Option(help="The folder of all this: the log, and one process's lists for later runs.")]
Overhead = Annotated[bool, typer.Option(help="Measure what the cluster costs, undisturbed.")]


def main(
    *,
    data: Data,
    model: ModelFolder,
    languages: str = "en,de",
    lines: int = 20_000,
    beam: int = 35,
    kills: int = 10,
    seed: int = 1,
    namespaces: Namespaces = False,
    delay: Delay = 1.0,
    ttl: Ttl = 20.0,
    pause: Pause = 2.0,
    keep: Keep = Path(".chaos"),
    overhead: Overhead = False,
    rounds: Annotated[int, typer.Option(help="Of the overhead's measurement.")] = 3,
) -> None:
    """Decode a text while machines die, and compare; or measure the overhead."""
    environment = {
        MARK: str(os.getpid()),
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{ttl}s",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s",
    }
    text = read(data, languages, lines)
    with process_control.raise_on_signals(), ExitStack() as stack:
        scratch = keep.absolute() / "cluster"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        network = None
        if namespaces:
            network = Network(delay / 1000)
            stack.enter_context(network.stack)
            network.add("client")
        cluster = Local(scratch, environment=environment, network=network)
        stack.enter_context(cluster.stack)
        own = 2 if overhead else 1  # processes that write the lists, beside the workers
        there = project(scratch / "project", text, model, beam=beam, cluster=cluster.address, processes=own)
        run = Run(there, environment, network)
        if overhead:
            compare_speed(run, cluster, project(scratch / "pool", text, model, beam=beam, processes=2), rounds)
            return
        alone = Run(project(keep / "alone", text, model, beam=beam), environment)
        alone.finish()
        machines = Machines(cluster, random.Random(seed), thaw_after=4 * ttl)
        stack.callback(machines.thaw)
        machines.keep_up()
        print(f"{'seconds':>8}{'lines':>8}  event", flush=True)
        events = plan(lines, kills, pause=pause, seed=seed)
        for seconds, done, told in disturb(run, machines, events):
            print(f"{seconds:8.0f}{done:8,}  {told}", flush=True)
        machines.keep_up()
        tasks = left_on_scheduler(run, cluster.address)
        machines.stop()
        left = left_running(environment[MARK])
        same = alone.checksum == run.checksum
        print(f"workers started again: {machines.restarts}, beside those that their nannies started")
        print(f"checksums: {alone.checksum} of one process, {run.checksum}: {'the same' if same else 'DIFFERENT'}")
        print(f"events that the work was too short for: {len(events)}")
        print(f"left on the scheduler: {tasks} tasks; left running: {[each.cmdline() for each in left] or 'nothing'}")
    sys.exit(0 if same and not left and not tasks and not events else 1)


def compare_speed(run: Run, cluster: Local, pool: Path, rounds: int) -> None:
    """Print the medians of a pool of two processes and of two workers, in turn, and the difference."""
    for _ in range(2):
        cluster.start_worker(nanny=True)
    local, took = Run(pool, run.environment), dict[str, list[float]](pool=[], cluster=[])
    run.seconds()  # the workers have loaded everything
    for _ in range(rounds):
        for name, each in (("pool", local), ("cluster", run)):
            took[name].append(each.seconds())
            print(f"{name}: {took[name][-1]:.1f} s", flush=True)
    assert local.checksum == run.checksum
    here, there = (statistics.median(took[name]) for name in ("pool", "cluster"))
    print(f"pool of 2 processes {here:.1f} s, 2 workers {there:.1f} s: overhead {100 * (there / here - 1):+.1f} %")


if __name__ == "__main__":
    typer.run(main)
