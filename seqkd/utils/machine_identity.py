"""What decides the bits that a machine computes: code, packages, processor."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from seqkd.utils import fingerprint
from seqkd.utils.errors import InputError

PACKAGES = ("numpy", "numba", "llvmlite", "torch", "sentencepiece", "sacrebleu")  # those that compute results

Identity = dict[str, str]  # what decides a result's bits -> what a machine has


@cache
def of(module: str | None) -> Identity:
    """Return what decides the bits that a function of a module computes: code, packages, processor.

    module: None leaves the code out, where it lies in a folder that both machines see.
    """
    found = {f"version of {name}": _version(name) for name in PACKAGES}
    if module is not None:
        code = fingerprint.of(module) if module.startswith("seqkd.") else module
        found = {"version of seqkd's code": code} | found
    try:
        from llvmlite import binding
    except ModuleNotFoundError:  # the packages' versions tell
        return found
    features = sorted(name for name, has in binding.get_host_cpu_features().items() if has)
    arithmetic = hashlib.blake2b(" ".join(features).encode(), digest_size=4).hexdigest()
    return found | {"processor": f"{binding.get_host_cpu_name()} ({arithmetic})"}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def check(expected: Identity | None, found: Identity, *, host: str) -> None:
    """Raise InputError, with the machine's name, for a worker that would compute other bits."""
    if expected is None or found == expected:
        return
    name = next(name for name in expected if found.get(name) != expected[name])
    raise InputError(
        f"{host}: its {name} is {found.get(name)}, here it is {expected[name]}, so results would differ; make the "
        "two the same, or set mixed: true in machine.yaml to accept other last bits."
    )
