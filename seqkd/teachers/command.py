"""A program of the user's own: source lines in, as many lines of translation out, a batch at a time.

It is started for each batch, without a shell, in a process group of its own. Its streams are files, so it may read and
write in any order. Whatever happens, nothing of the group is left running.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, count, islice
from typing import IO

import psutil

from seqkd.config.machine import Command
from seqkd.data.text_lists import TextHypothesis
from seqkd.utils.errors import InputError

RESTARTS = 3  # of one batch
POLL_SECONDS = 0.02
MEMORY_POLLS = 10  # between two looks at the memory
MAX_GROWTH = 20  # bytes that come out for each byte that goes in, at most, beyond the first MiB
TAIL = 300  # bytes of standard error that a refusal shows


PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class _FailedError(Exception):
    """The program failed in a way that another start may mend."""


def translate(
    name: str, program: Command, chunks: Iterable[list[str]]
) -> Iterator[list[tuple[str, list[TextHypothesis]]]]:
    """Yield the sources of a batch, each with the program's translation.

    Raise InputError where the program fails RESTARTS + 1 times, or gives another number of lines than it got.
    """
    sources = chain.from_iterable(chunks)
    while batch := list(islice(sources, program.batch)):
        lines = _run_with_restarts(name, program, batch)
        yield [(source, [TextHypothesis(line, None)]) for source, line in zip(batch, lines, strict=True)]


def _run_with_restarts(name: str, program: Command, batch: list[str]) -> list[str]:
    for attempt in range(RESTARTS + 1):
        try:
            return _run(name, program, batch)
        except _FailedError as error:
            fault = str(error)
            if attempt < RESTARTS:
                print(f"{name}: {fault}; starting it again ({attempt + 1} of {RESTARTS})", file=sys.stderr, flush=True)
    raise InputError(
        f"machine.yaml: commands.{name}: {fault}, {RESTARTS + 1} times; the batch begins with {batch[0][:60]!r}."
        " Correct the program, or its time_limit and batch."
    )


def _run(name: str, program: Command, batch: list[str]) -> list[str]:
    """Return the lines that the program writes for a batch."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        given.write("".join(f"{line}\n" for line in batch).encode())
        given.seek(0)
        code = _wait(name, program, streams=(given, out, errors), most=(1 << 20) + MAX_GROWTH * given.seek(0, 2))
        if code:
            raise _FailedError(f"it ended with {_exit(code)}{_tail(errors)}")
        out.seek(0)
        return _lines(name, out.read(), batch, _tail(errors))


def _wait(name: str, program: Command, *, streams: tuple[IO[bytes], IO[bytes], IO[bytes]], most: int) -> int:
    """Run the program to its end and return its exit code; most: bytes that it may write."""
    given, out, errors = streams
    given.seek(0)
    try:
        running = subprocess.Popen(
            program.argv,
            stdin=given,
            stdout=out,
            stderr=errors,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, safe beside other threads
        )
    except OSError as error:
        reason = (error.strerror or "refused").lower()
        raise InputError(
            f"machine.yaml: commands.{name}.argv: {program.argv[0]} cannot be started ({reason}); correct the name, or"
            " install it."
        ) from None
    end = time.monotonic() + program.time_limit
    try:
        for poll in count():
            if (code := running.poll()) is not None:
                return code
            written = os.fstat(out.fileno()).st_size + os.fstat(errors.fileno()).st_size
            if time.monotonic() > end:
                raise _FailedError(f"it took longer than its time_limit of {program.time_limit:g} s")
            if written > most:
                raise _FailedError(f"it wrote more than {most:,} bytes")
            if poll % MEMORY_POLLS == 0 and _memory(running.pid) > program.memory_limit * 1e6:
                raise _FailedError(f"it took more than its memory_limit of {program.memory_limit:,} MB")
            time.sleep(POLL_SECONDS)
        raise AssertionError("numbers do not end")
    finally:
        _end(running)


def _memory(pid: int) -> int:
    """Return the bytes of memory that the program and its children hold."""
    total = 0
    with suppress(psutil.Error):
        own = psutil.Process(pid)
        for process in (own, *own.children(recursive=True)):
            with suppress(psutil.Error):
                total += int(process.memory_info().rss)
    return total


def _end(running: subprocess.Popen[bytes]) -> None:
    """End all that is left of the program's process group."""
    with suppress(ProcessLookupError, PermissionError):  # macOS refuses a group of which only zombies are left
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def _die_with_parent() -> None:
    """Let the system end the program where this process is killed and cannot; Linux alone can."""
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _lines(name: str, written: bytes, batch: list[str], tail: str) -> list[str]:
    where = f"machine.yaml: commands.{name}"
    try:
        lines = written.decode().removeprefix("\ufeff").removesuffix("\n").split("\n") if written else []
    except UnicodeDecodeError:
        raise InputError(f"{where}: its output is not UTF-8; let it write UTF-8.") from None
    if len(lines) != len(batch):
        raise InputError(
            f"{where}: {len(lines):,} lines came back for {len(batch):,}, the first of them {batch[0][:60]!r}{tail}; "
            "let it write one line for each."
        )
    return lines


def _exit(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"signal {-code}"


def _tail(errors: IO[bytes]) -> str:
    """Return the last line that the program wrote to standard error, as an end of a sentence."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - TAIL))
    lines = errors.read().decode(errors="replace").split("\n")
    told = next((line.strip() for line in reversed(lines) if line.strip()), "")
    printable = "".join(character if character.isprintable() else " " for character in told)
    return f" ({printable.rstrip('.')})" if printable else ""
