"""params.yaml and machine.yaml of the working folder, checked."""

import os
from pathlib import Path

from seqkd.config import records, references
from seqkd.config.machine import Machine
from seqkd.config.schema import Params
from seqkd.utils.errors import InputError


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
        return Machine()
    if not existing.exists():
        raise InputError(f"{existing}: a link to a file that is not there; correct the link or remove it.")
    return records.load(existing, Machine)
