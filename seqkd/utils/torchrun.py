"""Training over machines as the command line sees it: what torchrun told this process, and how it starts a stage.

torchrun comes with torch. It starts one process for each machine or GPU, a rank, with the same command.
"""

import os
import shlex
import signal
import subprocess
import sys

from seqkd.utils.errors import InputError, StoppedError

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # that torchrun sets for a rank
GRACE_SECONDS = 35.0  # for the ranks to save their state when they are stopped; torchrun kills them after 30


def is_rank() -> bool:
    """Return whether torchrun has started this process."""
    return all(os.environ.get(name) for name in VARIABLES)


def world() -> tuple[int, int]:
    """Return this process's rank and the number of ranks: 0 and 1 where no torchrun has started it."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if is_rank() else (0, 1)


def local_rank() -> int:
    """Return the number of this rank on its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK") or 0) if world()[1] > 1 else 0


def is_main() -> bool:
    """Return whether this process is the one that writes: rank 0."""
    return world()[0] == 0


def leave() -> None:
    """End this rank's part in torch.distributed, if it has one: its threads would abort a process that ends."""
    distributed = sys.modules.get("torch.distributed")  # without an import: most commands need no torch
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def launch(launcher: str, arguments: list[str]) -> None:
    """Run `LAUNCHER -m seqkd ARGUMENTS` to its end; a signal that ends this process ends the ranks too.

    launcher: torchrun with its options, and what starts it on every machine. Raise InputError where it cannot be
    started or a rank failed.
    """
    try:
        command = [*shlex.split(launcher), "-m", "seqkd", *arguments]
        # In a session of its own: a Ctrl-C reaches the ranks once, from here, as a second one would end them unsaved.
        process = subprocess.Popen(command, start_new_session=True)
    except (OSError, ValueError) as error:
        raise InputError(f"machine.yaml, torchrun: {launcher!r} cannot be started ({error}); correct it.") from None
    try:
        code = process.wait()
    except StoppedError:
        stop(process)
        raise
    if code:
        print(file=sys.stderr)
        raise InputError(
            f"machine.yaml, torchrun: a rank ended with an error (exit code {code}); its own message stands above. The"
            " same command resumes from the last checkpoint."
        )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop a command, with the ranks that it started; they may save their state first."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
