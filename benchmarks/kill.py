"""Does a run that is killed again and again end in the same bits as one left alone?

python -m benchmarks.kill --kills 24 --seed 1 --pairs 1000 --epochs 4

Runs a small pipeline undisturbed, to see what each stage takes. A second copy is struck: `dvc repro` is started, and at
a random moment in the life of a stage drawn before, one of its processes or all of them are killed with -9; then it is
started again. A round strikes each kind of stage once, in the order of the run, so that none is done before; the next
round begins from nothing. DVC's own files, which it rewrites in place, are mended as README says. At the end of each
round both copies' dvc.lock, the checksums of all that was made, must be the same.
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
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import psutil
import typer

from benchmarks import tiny
from benchmarks.tiny import Project
from seqkd.config import yaml_file
from seqkd.utils import process_control

LOOK = 0.05  # seconds between two looks at the processes
GONE = 10.0  # seconds within which all processes of a stage must end, whichever of them was killed
TRIES = 4  # of one strike; each earlier in the stage's life than the one before
Victim = Literal["stage", "worker", "launcher", "dvc", "group"]


class Strike(NamedTuple):
    """One kill."""

    stage: str  # as DVC names it
    after: float  # seconds of its life
    victim: Victim  # a stage without workers is struck itself, and so is one that no shell stands before


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


def stage(process: psutil.Process) -> str:
    """The stage whose command this process is, or was forked from; "" for any other."""
    try:
        named = process.cmdline()[1:3] == ["-m", "seqkd"]
        return process.environ().get(process_control.STAGE_VARIABLE, "") if named else ""
    except psutil.Error:
        return ""


def victims(there: list[psutil.Process], strike: Strike) -> list[psutil.Process]:
    """Of a family, those to kill."""
    first, *workers = [process for process in there if stage(process) == strike.stage]
    chosen = {"dvc": there[:1], "launcher": there[1:2], "worker": workers[-1:], "group": there}
    return chosen.get(strike.victim) or [first]


def kill(running: subprocess.Popen[str]) -> None:
    """Ends the command and all that it started, none of them warned."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    while left := family(running.pid):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(LOOK)
    running.communicate()


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
        whole = not lock.exists() or isinstance(yaml_file.load(lock.read_text()), dict)
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


def watched(project: Project) -> dict[str, float]:
    """An undisturbed `dvc repro`: the seconds that each stage took, in the order of the run."""
    running, lasted = project.start("dvc", "repro"), dict[str, float]()
    while True:
        try:
            output = running.communicate(timeout=LOOK)[0]
            assert running.returncode == 0, output
            return lasted
        except subprocess.TimeoutExpired:
            for process in family(running.pid):
                if name := stage(process):
                    lasted[name] = max(lasted.get(name, 0.0), time.time() - process.create_time())


def rounds(lasted: dict[str, float], kills: int, seed: int) -> list[list[Strike]]:
    """So many strikes. lasted: seconds of each stage, in the order of a run."""
    lots, kinds, found = random.Random(seed), dict[str, list[str]](), list[list[Strike]]()
    for name in lasted:
        kinds.setdefault(name.partition("@")[0].partition("-")[0], []).append(name)
    while kills > 0:
        drawn = [lots.choice(kinds[kind]) for kind in lots.sample(sorted(kinds), min(kills, len(kinds)))]
        kills -= len(drawn)
        found.append(
            [
                Strike(name, lots.uniform(0.0, lasted[name]), lots.choice(get_args(Victim)))
                for name in sorted(drawn, key=[*lasted].index)
            ]
        )
    return found


def struck(project: Project, strike: Strike) -> str:
    """`dvc repro` until the strike: who was killed, in words. "" where the stage was not met, or had ended before."""
    running, met = project.start("dvc", "repro"), False
    while True:
        try:
            output = running.communicate(timeout=LOOK)[0]
        except subprocess.TimeoutExpired:
            there = family(running.pid)
            own = [process for process in there if stage(process) == strike.stage]
            if own and time.time() - own[0].create_time() >= strike.after:
                break
            if met and not own:
                kill(running)
                return ""
            met = met or bool(own)
            continue
        if running.returncode and not mend(project):
            raise AssertionError(output)
        return ""
    chosen = victims(there, strike)
    shown = f"{strike.victim} ({len(chosen)} of {len(there)} processes, {len(own) - 1} of them workers)"
    end(running, chosen, own)
    return shown


def end(running: subprocess.Popen[str], chosen: Sequence[psutil.Process], own: Sequence[psutil.Process]) -> None:
    """Kills the chosen processes. AssertionError where one of the stage's own is then left for too long."""
    for process in chosen:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    until = time.monotonic() + GONE
    while family(running.pid) and time.monotonic() < until:
        time.sleep(LOOK)
    left = set(own) & set(family(running.pid))
    kill(running)  # dvc is still there where the stage had done its work already
    assert not left, f"{len(left)} processes of the stage are left after {GONE:.0f} s"


def disturbed(project: Project, strikes: Sequence[Strike]) -> list[str]:
    """Strikes `dvc repro` again and again, then lets it end; one line a strike."""
    told: list[str] = []
    for strike in strikes:
        for tried in range(TRIES):
            after = strike.after / 2**tried
            if victim := struck(project, strike._replace(after=after)):
                break
            forget(project)  # the stage is done: from the start again
        else:
            raise AssertionError(f"{strike.stage} was never met")
        told.append(f"{strike.stage} after {after:.1f} s: {victim}; mended: {mend(project) or 'nothing'}")
        print(told[-1], flush=True)
    return [*told, f"then to the end; mended: {finish(project) or 'nothing'}"]


def main(
    kills: Annotated[int, typer.Option(help="How often the run is killed; 24: each of 12 kinds of stage twice.")] = 24,
    seed: Annotated[int, typer.Option(help="Of stages, moments and victims.")] = 1,
    pairs: Annotated[int, typer.Option(help="The corpus's size.")] = 1000,
    epochs: Annotated[int, typer.Option(help="Of each training.")] = 4,
) -> None:
    """Kill the pipeline at random moments of every stage and compare what comes out."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        copies = [tiny.copy(Path(folder) / name / "project", pairs=pairs, epochs=epochs) for name in ("left", "killed")]
        for each in copies:
            each.machine(processes=2, checkpoint_interval=0.2)
        left, killed = copies
        lasted = watched(left)
        alone = time.monotonic() - began
        print(f"undisturbed: {len(lasted)} stages, {alone:.0f} s", flush=True)
        same = True
        for number, strikes in enumerate(rounds(lasted, kills, seed), start=1):
            forget(killed)
            print(disturbed(killed, strikes)[-1])
            same = same and left.lock == killed.lock
            print(f"round {number}; dvc.lock: {'the same' if left.lock == killed.lock else 'DIFFERENT'}", flush=True)
        print(f"{kills} kills: {time.monotonic() - began - alone:.0f} s")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    typer.run(main)
