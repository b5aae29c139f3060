"""Process lifetimes and signals.

One stage at a time writes an out. A stage ends with the `dvc` that started it, a worker with its stage.
"""

import fcntl
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from seqkd.utils import atomic
from seqkd.utils.errors import InputError, StoppedError

POLL_SECONDS = 1.0  # between two checks of the parent processes
RETRY_SECONDS = 0.05  # until a signal that came at a bad moment is sent again
GRACE_SECONDS = 7.0  # for a stage to save its state when they have ended
STAGE_VARIABLE = "DVC_STAGE"  # set by DVC for the command of a stage
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def exclusive_lock(out: Path) -> Iterator[None]:
    """Hold an exclusive lock on the path `out` during the block; the system releases it however the process ends.

    Raise InputError, with the other's process id, where another process holds it.
    """
    folder = Path(".dvc/tmp") if Path(".dvc").is_dir() else atomic.private_tmp_dir()
    path = folder / "locks" / hashlib.sha256(os.fsencode(os.path.realpath(out))).hexdigest()[:32]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # lockf: forked workers do not inherit the lock
        except OSError:
            file.seek(0)
            raise InputError(
                f"process {file.read().strip() or 'unknown'} is at work on {out}; wait until it has ended, or end it."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise StoppedError in the block on SIGTERM, SIGINT or SIGHUP, so that open files are closed and tidied up.

    Inside llvmlite, which compiles for numba, the signal waits: C code that calls Python drops an exception.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        if any(name.startswith("llvmlite.") for name in _modules(frame)):
            threading.Timer(RETRY_SECONDS, os.kill, (os.getpid(), number)).start()
        else:
            raise StoppedError(number)

    with _signal_handler(stop):
        yield


@contextmanager
def defer_signals() -> Iterator[Callable[[], int]]:
    """Record the first signal in the block instead of raising; a second one raises StoppedError at once.

    Yield a function that returns the number of the recorded signal, or 0. Raise StoppedError at the end of the block
    where there was one.
    """
    received: list[int] = []

    def record(number: int, _: FrameType | None) -> None:
        if received:
            raise StoppedError(number)
        received.append(number)

    with _signal_handler(record):
        yield partial(max, received, default=0)  # no lambda: a worker that is spawned gets it pickled
    if received:
        raise StoppedError(received[0])


def _modules(frame: FrameType | None) -> Iterator[str]:
    """Yield the names of the modules of a frame and of its callers."""
    while frame is not None:
        yield frame.f_globals.get("__name__", "")
        frame = frame.f_back


@contextmanager
def _signal_handler(handler: Handler) -> Iterator[None]:
    """Handle SIGNALS during the block, except those that are ignored, as nohup asks for."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def exit_with_dvc() -> None:
    """End this process when the `dvc` that started it, or the shell between them, has ended.

    A killed dvc leaves both running, and the next dvc would start a second training beside the first. A stage that a
    user starts is not watched: it may outlive its shell, with nohup for example.
    """
    if STAGE_VARIABLE in os.environ:
        threading.Thread(target=_watch_dvc, args=(os.getppid(),), daemon=True).start()


def _watch_dvc(parent: int) -> None:
    import psutil

    def is_of_stage(process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get(STAGE_VARIABLE) == os.environ[STAGE_VARIABLE])
        except psutil.AccessDenied:
            return False

    chain = [psutil.Process()]
    try:
        while is_of_stage(chain[-1]):
            chain.append(psutil.Process(chain[-1].ppid()))
        while os.getppid() == parent and all(lower.ppid() == upper.pid for lower, upper in pairwise(chain)):
            time.sleep(POLL_SECONDS)
    except psutil.Error:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def exit_with_parent() -> None:
    """Make this worker ignore signals, which its parent handles, and end when its parent has ended."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_exit_when_orphaned, args=(os.getppid(),), daemon=True).start()


def _exit_when_orphaned(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)
