"""What the workers of the tests' clusters do."""

import os
import time
from pathlib import Path


def double(number: int) -> int:
    return 2 * number


def slow_double(number: int) -> int:
    time.sleep(0.05)
    return 2 * number


def die(number: int) -> int:
    os._exit(1)


def read(name: str) -> str:
    return f"{name}: {Path('common/file').read_text()} {Path(name).read_text()}"
