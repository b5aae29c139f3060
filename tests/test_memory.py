import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import memory
from benchmarks.memory import Peak

MB = 1 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process holds on Linux alone")


def test_held_bytes_tell_own_memory_from_mapped_files(tmp_path: Path) -> None:
    before = memory.held_bytes(os.getpid())
    own = np.ones(20 * MB, np.uint8)
    np.save(tmp_path / "mapped.npy", own)
    mapped = np.load(tmp_path / "mapped.npy", mmap_mode="r")
    assert mapped[::4096].sum() == own[::4096].sum()
    grown = [after - less for after, less in zip(memory.held_bytes(os.getpid()), before, strict=True)]
    assert all(0.9 * 20 * MB < growth < 1.5 * 20 * MB for growth in grown)


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
