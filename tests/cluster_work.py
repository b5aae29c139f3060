"""What the workers of the tests' clusters do."""

import time
from pathlib import Path


def double(number: int) -> int:
    return 2 * number


def slow_double(number: int) -> int:
    time.sleep(0.05)
    return 2 * number


def grow(number: int) -> int:
    """Take 400 MB and keep it for longer than a nanny looks away."""
    taken = bytearray(400_000_000)
    taken[::4096] = b"1" * len(taken[::4096])
    time.sleep(60)
    return len(taken)


def read(name: str) -> str:
    return f"{name}: {Path('common/file').read_text()} {Path(name).read_text()}"
