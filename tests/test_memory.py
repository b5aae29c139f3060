import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import memory
from benchmarks.memory import Peak

MB = 1 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process holds on Linux alone")


HOLDER = """
import mmap, sys
own = mmap.mmap(-1, int(sys.argv[2]))
own.write(b"x" * len(own))
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
input()
assert mapped[::4096]
print("held", flush=True)
input()
"""


def test_held_bytes_tell_own_memory_from_mapped_files(tmp_path: Path) -> None:
    """Look at a new process: this one may take its arrays from memory that earlier tests gave back."""
    (tmp_path / "mapped").write_bytes(b"x" * 20 * MB)
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "mapped"), str(30 * MB)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "held\n"
        own, mapped = memory.held_bytes(holder.pid)
        holder.stdin.write("\n")
    assert 30 * MB <= own < 50 * MB
    assert 20 * MB <= mapped < 40 * MB


def test_watch_stops_a_stage_once_its_work_shows(tmp_path: Path) -> None:
    (tmp_path / "sign").touch()
    with subprocess.Popen([sys.executable, "-c", "import time; x = b'x' * (30 << 20); time.sleep(60)"]) as running:
        peak = memory.watch(running, "sign", tmp_path, 1)
    assert running.returncode != 0
    assert 30 * MB < peak.own < 60 * MB


def test_table_tells_the_growth_from_size_to_size() -> None:
    peaks = {("vocab", 1000): Peak(5_000_000, 0, 2.0), ("vocab", 3000): Peak(5_040_000, 1_000_000, 4.0)}
    rows = memory.table(["vocab"], [1000, 3000], peaks, seconds=60).splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells == [["vocab", "1,000", "5", "", "0", "2"], ["vocab", "3,000", "5", "20.0", "1", "4"]]
