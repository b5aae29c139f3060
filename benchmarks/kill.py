"""Does a run that is killed again and again end in the same bits as one left alone?

python -m benchmarks.kill --kills 20 --seed 1 --pairs 1000 --epochs 4

Runs a small pipeline undisturbed. In a second copy, `dvc repro` and every process it started are killed with -9 at
random moments and started again; DVC's own files, which it rewrites in place, are mended as README says. At the end
both copies' dvc.lock, the checksums of all that was made, must be the same.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import psutil
import typer

from benchmarks import tiny
from benchmarks.tiny import Project
from seqkd import document


def family(leader: int) -> list[psutil.Process]:
    """The living processes of the session that leader began, the first one first."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.Error):
            continue
    return sorted(found, key=lambda process: process.create_time())


def kill(running: subprocess.Popen[str]) -> None:
    """Ends the command and all that it started, none of them warned."""
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    while left := family(running.pid):
        for process in left:
            process.kill()
        time.sleep(0.05)


def mend(project: Project) -> list[str]:
    """The cure for DVC's files that a kill has torn: the lock of the last commit, and no lock of processes."""
    mended = []
    rwlock, lock = project.folder / ".dvc/tmp/rwlock", project.folder / "dvc.lock"
    try:
        json.loads(rwlock.read_text() if rwlock.exists() else "{}")
    except ValueError:
        rwlock.unlink()
        mended.append("rwlock")
    try:
        whole = not lock.exists() or isinstance(document.load(lock.read_text()), dict)
    except Exception:  # whatever the rest of a torn file makes its reader say
        whole = False
    if not whole:
        restore(project)
        mended.append("dvc.lock")
    return mended


def restore(project: Project) -> None:
    """dvc.lock as it was committed, or none; finished stages then come back from DVC's run cache."""
    if "dvc.lock" in project.run("git", "ls-files", "dvc.lock"):
        project.run("git", "checkout", "dvc.lock")
    else:
        (project.folder / "dvc.lock").unlink()


def forget(project: Project) -> None:
    """Everything that DVC has made and remembers, so that the next run does all of it anew."""
    (project.folder / "dvc.lock").unlink(missing_ok=True)
    for name in (".dvc/cache", ".dvc/tmp/decoded", ".dvc/tmp/resume"):
        shutil.rmtree(project.folder / name, ignore_errors=True)
    project.run("git", "clean", "-Xqfd", "data", "models", "reports")  # what git ignores, so not .gitignore


def finish(project: Project) -> list[str]:
    """dvc repro to its end, with the cure where DVC refuses its own files; what was mended."""
    mended = mend(project)
    try:
        project.run("dvc", "repro")
    except AssertionError:
        restore(project)
        (project.folder / ".dvc/tmp/rwlock").unlink(missing_ok=True)
        project.run("dvc", "repro")
        mended.append("dvc.lock or rwlock, refused by dvc")
    return mended


def disturbed(project: Project, kills: int, seed: int, *, latest: float) -> list[str]:
    """Kills `dvc repro` so many times, each within latest seconds of its start, then lets it end; one line a kill."""
    lots = random.Random(seed)
    told: list[str] = []
    while len(told) < kills:
        after = lots.uniform(0.0, latest)
        running = project.start("dvc", "repro")
        try:
            output = running.communicate(timeout=after)[0]
        except subprocess.TimeoutExpired:
            at = " ".join(" ".join(process.cmdline()[1:4]) for process in family(running.pid)[-1:])
            kill(running)
            told.append(f"kill {len(told) + 1} after {after:.1f} s, at {at}; mended: {mend(project) or 'nothing'}")
            print(told[-1], flush=True)
            continue
        if running.returncode == 0:  # all done before all kills: from the start again
            forget(project)
        elif not mend(project):
            raise AssertionError(output)
    return [*told, f"then to the end; mended: {finish(project) or 'nothing'}"]


def main(
    kills: Annotated[int, typer.Option(help="How often the run is killed.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 1,
    pairs: Annotated[int, typer.Option(help="The corpus's size.")] = 1000,
    epochs: Annotated[int, typer.Option(help="Of each training.")] = 4,
) -> None:
    """Kill the pipeline at random moments and compare what comes out."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        copies = [tiny.copy(Path(folder) / name / "project", pairs=pairs, epochs=epochs) for name in ("left", "killed")]
        for each in copies:
            each.machine(workers=2, save_every=0.2)
        left, killed = copies
        left.run("dvc", "repro")
        alone = time.monotonic() - began
        print(f"undisturbed: {alone:.0f} s", flush=True)
        print(disturbed(killed, kills, seed, latest=2 * alone / kills)[-1])
        same = left.lock == killed.lock
        print(
            f"{kills} kills: {time.monotonic() - began - alone:.0f} s; dvc.lock: {'the same' if same else 'DIFFERENT'}"
        )
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    typer.run(main)
