"""One stage at a time writes an out; a stage ends with its dvc, a worker with its stage."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from source_tree import ROOT

from benchmarks.kill import family
from seqkd.training import data_parallel
from seqkd.utils import process_control
from seqkd.utils.errors import StoppedError

BIN = Path(sys.executable).parent

# A stage in a checkout of its own: two training processes that sum again and again, and the real command line.
TRAIN = '''"""train: sum."""
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from seqkd.training.data_parallel import DataParallelGroup
from seqkd.utils import process_control
from seqkd.utils.errors import StoppedError

WRITES = "{out}"

def main(*, out: Annotated[Path, typer.Option()]) -> None:
    with process_control.defer_signals() as received:
        DataParallelGroup(nn.Linear(2, 2), 2, shards=2).run(work, received)

def work(group: DataParallelGroup, received: object) -> None:
    if group.local_rank == 0:
        print("ready", flush=True)
    while not group.all_reduce([0.0 if group.local_rank else float(received())])[0]:
        pass
    raise StoppedError(15, "stopped; all is saved")
'''


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A DVC project with one stage."""
    shutil.copytree(ROOT / "seqkd", tmp_path / "seqkd")
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__init__.py").touch()
    (tmp_path / "stages/train.py").write_text(TRAIN)
    command = "python -m seqkd train --out model; true"
    (tmp_path / "dvc.yaml").write_text(f"stages: {{train: {{cmd: '{command}', outs: [model]}}}}\n")
    subprocess.run([BIN / "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    return tmp_path


def start(checkout: Path, *command: str) -> subprocess.Popen[str]:
    """Start a command and return when its stage is at work."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(checkout)}
    environment.pop(process_control.STAGE_VARIABLE, None)
    running = subprocess.Popen(
        command, cwd=checkout, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert running.stdout is not None
    for line in running.stdout:
        if line == "ready\n":
            return running
    raise AssertionError("the stage did not start")


def gone(leader: int, *, within: float = 10.0) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until and family(leader):
        time.sleep(0.1)
    return not family(leader)


@pytest.fixture
def running(checkout: Path) -> Iterator[subprocess.Popen[str]]:
    """dvc, its shell, the stage and a worker."""
    started = start(checkout, "dvc", "repro")
    yield started
    for process in family(started.pid):
        process.kill()
    started.wait()
    assert started.stdout is not None
    started.stdout.close()


def name(process: psutil.Process) -> str:
    """The program that a process runs: the module after `python -m`, else the script, else the executable."""
    words = process.cmdline()
    return Path(words[2 if words[1] == "-m" else 1 if "python" in words[0] else 0]).name


TARGETS: dict[str, Callable[[list[psutil.Process]], list[psutil.Process]]] = {
    "dvc alone": lambda processes: processes[:1],
    "the launcher": lambda processes: processes[1:2],
    "the stage": lambda processes: processes[2:3],
    "a worker": lambda processes: processes[3:],
    "the whole group": lambda processes: processes,
}


@pytest.mark.dvc
@pytest.mark.slow
@pytest.mark.parametrize("target", list(TARGETS))
def test_processes_are_gone_ten_seconds_after_a_kill(running: subprocess.Popen[str], target: str) -> None:
    processes = family(running.pid)
    assert list(map(name, processes)) == ["dvc", Path(os.environ.get("SHELL") or "/bin/sh").name, "seqkd", "seqkd"]
    for process in TARGETS[target](processes):
        process.kill()
    assert gone(running.pid)


@pytest.mark.dvc
@pytest.mark.slow
def test_stage_without_its_dvc_saves_before_it_ends(running: subprocess.Popen[str]) -> None:
    family(running.pid)[0].kill()
    assert gone(running.pid)
    assert running.communicate()[0].endswith("seqkd train: stopped; all is saved\n")


LOST = """
import os, signal, time
from torch import nn
from seqkd.training.data_parallel import DataParallelGroup

def work(group):
    if group.local_rank:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # compiles, say

if __name__ == "__main__":
    DataParallelGroup(nn.Linear(2, 2), 2, shards=2).run(work)
"""


@pytest.mark.slow
def test_training_whose_worker_is_killed_ends_even_while_it_is_busy(tmp_path: Path) -> None:
    (tmp_path / "lost.py").write_text(LOST)
    command = [sys.executable, "lost.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False, timeout=45
    )
    assert (ran.returncode, ran.stderr) == (1, f"{data_parallel.WORKER_KILLED}\n")


@pytest.mark.slow
def test_stage_started_by_hand_outlives_the_shell_that_started_it(checkout: Path) -> None:
    running = start(checkout, "sh", "-c", "python -m seqkd train --out model; true")
    family(running.pid)[0].kill()
    running.wait()
    assert not gone(running.pid, within=3 * process_control.POLL_SECONDS)
    for process in family(running.pid):
        process.terminate()
    assert gone(running.pid)


@pytest.mark.slow
def test_second_stage_for_the_same_out_ends_at_once_and_names_the_first(checkout: Path) -> None:
    running = start(checkout, "python", "-m", "seqkd", "train", "--out", "model")
    command = [sys.executable, "-m", "seqkd", "train", f"--out={checkout}/model"]
    second = subprocess.run(command, cwd=checkout, text=True, capture_output=True, check=False, timeout=30)
    assert second.returncode == 1
    assert second.stderr == (
        f"seqkd train: process {running.pid} is at work on {checkout}/model; wait until it has ended, or end it.\n"
    )
    running.kill()
    running.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout)
        with process_control.exclusive_lock(Path("model")):
            pass
    assert gone(running.pid)


def test_exclusive_lock_leaves_another_out_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with process_control.exclusive_lock(Path("one")), process_control.exclusive_lock(Path("two")):
        pass


def test_exclusive_lock_accepts_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    for name in ("loop", "loop/x", os.fsdecode(b"x\xffz"), ".", "/", ""):
        with process_control.exclusive_lock(Path(name)):
            pass


def test_raise_on_signals_ends_a_block_and_runs_its_clean_up() -> None:
    closed = []

    def work() -> None:
        with process_control.raise_on_signals():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            finally:
                closed.append(True)

    with pytest.raises(StoppedError) as stopped:
        work()
    assert stopped.value.signal == signal.SIGTERM
    assert closed


def test_raise_on_signals_waits_until_llvmlite_has_returned() -> None:
    """Python drops an exception of a callback from C, and the compiler breaks."""
    names: dict[str, Any] = {"__name__": "llvmlite.binding", "signal": signal, "done": []}
    exec("def compile_module():\n    signal.raise_signal(signal.SIGTERM)\n    done.append(True)", names)

    def work() -> None:
        with process_control.raise_on_signals():
            names["compile_module"]()
            time.sleep(10)

    with pytest.raises(StoppedError):
        work()
    assert names["done"]


def test_raise_on_signals_leaves_an_ignored_signal_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with process_control.raise_on_signals():
        os.kill(os.getpid(), signal.SIGHUP)
    signal.signal(signal.SIGHUP, before)


def test_defer_signals_records_the_first_signal_and_raises_on_the_second() -> None:
    seen = []

    def work() -> None:
        with process_control.defer_signals() as received:
            for _ in range(3):
                seen.append(received())
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError):
        work()
    assert seen == [0, signal.SIGTERM]
