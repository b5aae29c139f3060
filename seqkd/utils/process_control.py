"""Which processes live: one stage at a time for an out, none longer than the `dvc` that started it, no worker longer
than its stage; and what a signal does."""

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

POLL_SECONDS = 1.0  # seconds between two looks at the processes above
GRACE_SECONDS = 7.0  # seconds that a stage has to save its state when they are gone
STAGE_VARIABLE = "DVC_STAGE"  # what DVC sets for the command of a stage
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def exclusive_lock(out: Path) -> Iterator[None]:
    """Holds out for this process while the block runs; the system lets go of it however the process ends.

    Raises InputError, with the other's number, where another process holds it.
    """
    folder = Path(".dvc/tmp") if Path(".dvc").is_dir() else atomic.private_tmp_dir()
    path = folder / "locks" / hashlib.sha256(os.fsencode(os.path.realpath(out))).hexdigest()[:32]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the process's own: workers forked from it hold nothing
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
    """SIGTERM ends the block as an interrupt from the keyboard does: what it had open is closed and tidied up."""

    def end(number: int, _: FrameType | None) -> None:
        raise StoppedError(number)

    with _handled(end):
        yield


@contextmanager
def defer_signals() -> Iterator[Callable[[], int]]:
    """Within the block a signal only asks for the end: the function that the block is given says which, or 0.

    A second signal ends it at once.
    """
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        if asked:
            raise StoppedError(number)
        asked.append(number)

    with _handled(ask):
        yield partial(max, asked, default=0)  # no lambda: a worker that is spawned gets it pickled
    if asked:
        raise StoppedError(asked[0])


@contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup's wish is kept
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def exit_with_dvc() -> None:
    """Ends this process when the `dvc` that started it, or the shell between them, is gone.

    Killing dvc leaves both behind, and another dvc would start a second trainer beside the first. A stage that a user
    starts is not watched: it may outlive its shell, under nohup say.
    """
    if STAGE_VARIABLE in os.environ:
        threading.Thread(target=_watch_dvc, args=(os.getppid(),), daemon=True).start()


def _watch_dvc(parent: int) -> None:
    import psutil

    def marked(process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get(STAGE_VARIABLE) == os.environ[STAGE_VARIABLE])
        except psutil.AccessDenied:
            return False

    chain = [psutil.Process()]
    try:
        while marked(chain[-1]):
            chain.append(psutil.Process(chain[-1].ppid()))
        while os.getppid() == parent and all(lower.ppid() == upper.pid for lower, upper in pairwise(chain)):
            time.sleep(POLL_SECONDS)
    except psutil.Error:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def exit_with_parent() -> None:
    """For a worker: leaves signals to the process that started it, and ends when that is gone."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_exit_when_orphaned, args=(os.getppid(),), daemon=True).start()


def _exit_when_orphaned(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)
