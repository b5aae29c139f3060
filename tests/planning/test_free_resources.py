"""What is free in memory and on disks, and the refusal of what is not."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT

from seqkd.planning import bounds
from seqkd.utils.errors import InputError

MB = 1 << 20


def test_require_lets_through_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "free_memory", lambda: 100 * MB)
    monkeypatch.setattr(bounds, "free_disk", lambda _: 5_000_000)
    bounds.require("decode k9", 100 * MB, disk=5_000_000, lower="the beam in params.yaml")


def test_require_names_what_is_needed_what_is_free_and_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "free_memory", lambda: 1_050_000_000)
    monkeypatch.setattr(bounds, "free_disk", lambda _: 4_000_000)
    with pytest.raises(InputError) as error:
        bounds.require("decode k9", 1_204_000_000, lower="the beam in params.yaml")
    assert str(error.value) == (
        "decode k9 needs about 1,204 MB of memory, and 1,050 MB is free; lower the beam in params.yaml."
    )
    with pytest.raises(InputError) as error:
        bounds.require("decode k9", 0, disk=5_000_000, folder=Path("data"), lower="the beam in params.yaml")
    assert str(error.value) == (
        "decode k9 needs about 5 MB on the disk of data, and 4 MB is free; lower the beam in params.yaml."
    )


def test_free_disk_is_that_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    assert bounds.free_disk(tmp_path / "not" / "there" / "yet") == pytest.approx(bounds.free_disk(tmp_path), rel=0.01)


def test_cgroup_memory_takes_cached_files_for_free_in_every_group_with_a_limit(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    limits = {tmp_path / "outer": ("1000", "700", 100), inner: ("max", "200", 0)}
    for folder, (most, used, cached) in limits.items():
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")
    (tmp_path / "own").write_text("0::/outer/inner\n")
    assert bounds.cgroup_memory(tmp_path, tmp_path / "own") == [400]
    assert bounds.cgroup_memory(tmp_path, tmp_path / "absent") == []


def test_cgroup_memory_reads_the_older_version_too(tmp_path: Path) -> None:
    folder = tmp_path / "memory" / "job"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("1000\n")
    (folder / "memory.usage_in_bytes").write_text("600\n")
    (folder / "memory.stat").write_text("total_inactive_file 50\n")
    (tmp_path / "own").write_text("4:cpu,cpuacct:/job\n3:memory:/job\n")
    assert bounds.cgroup_memory(tmp_path, tmp_path / "own") == [450]


@pytest.mark.slow
def test_free_memory_heeds_the_limit_of_the_process() -> None:
    code = "from seqkd.planning import bounds; print(bounds.free_memory())"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4_000 * MB, 4_000 * MB))

    free = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True, preexec_fn=limit)
    assert 0 < int(free) < 4_000 * MB
