"""params.yaml and machine.yaml of the working folder, checked."""

import os
from pathlib import Path

from seqkd.config import records, references
from seqkd.config.machine import Machine
from seqkd.config.schema import Params
from seqkd.utils.errors import InputError

PROCESSES = "SEQKD_PROCESSES"  # set by `seqkd grid` for each of the stages that share a machine


def params(path: Path = Path("params.yaml")) -> Params:
    """Read params.yaml. Raise InputError also where a row names another row that does not exist."""
    return references.check(records.load(path, Params), where=str(path))


def machine(path: Path = Path("machine.yaml")) -> Machine:
    """Read machine.yaml, or return the defaults where there is none.

    DVC runs a queued experiment in a clone under the checkout's .dvc. Git ignores machine.yaml, so the clone has
    none: there the checkout's file is read.
    """
    outer = [folder.parent / path for folder in Path.cwd().parents if folder.name == ".dvc"]
    existing = next((each for each in (path, *outer) if os.path.lexists(each)), None)
    if existing is None:
        return _shared(Machine())
    if not existing.exists():
        raise InputError(f"{existing}: a link to a file that is not there; correct the link or remove it.")
    return _shared(records.load(existing, Machine))


def _shared(machine: Machine) -> Machine:
    """Return the machine with no more processes than this stage's share."""
    share = os.environ.get(PROCESSES, "")
    return machine.model_copy(update={"processes": min(machine.processes, int(share))}) if share.isdigit() else machine
