"""A command on a worker of a Dask cluster, in a folder that both see."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_cluster import Local, kill
from seqkd.utils import cluster, remote_command
from seqkd.utils.cluster import Cluster
from seqkd.utils.errors import InputError

pytest.importorskip("distributed", reason="needs the extra cluster")
pytestmark = pytest.mark.slow

SLEEPER = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(600)"
RUN = "import sys; from seqkd.utils import remote_command as r; r.run(sys.argv[2:], r.Cluster(sys.argv[1]))"


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Local]:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").touch()
    found = Local(tmp_path)
    with found.stack:
        yield found


def wait_for(path: Path) -> str:
    end = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return path.read_text()


def test_command_runs_on_a_worker_that_may_train_in_the_shared_folder(
    local: Local, capfd: pytest.CaptureFixture[str]
) -> None:
    where = Cluster(local.address)
    local.start_worker()
    with pytest.raises(InputError, match=rf"^{local.address}: no worker may train; start one on each machine with `da"):
        remote_command.run(["-c", ""], where)
    local.start_trainer()
    client = cluster.connect(local.address)
    client.wait_for_workers(2, timeout=60)
    client.close()  # type: ignore[no-untyped-call]
    code = "import pathlib, sys; pathlib.Path('made').write_text('here'); sys.exit('seqkd train: no such row.')"
    assert remote_command.run(["-c", code], where) == 1
    assert Path("made").read_text() == "here"
    assert "seqkd train: no such row." in capfd.readouterr().err
    Path("params.yaml").unlink()
    with pytest.raises(InputError, match=r"^\S+: there is no \S+/params\.yaml; trainings on several machines need one"):
        remote_command.run(["-c", ""], where)


def test_command_ends_with_whoever_wanted_it(local: Local) -> None:
    local.start_trainer()
    asking = subprocess.Popen([sys.executable, "-c", RUN, local.address, "-c", SLEEPER], start_new_session=True)
    process = Path("/proc", wait_for(Path("pid")))
    assert process.exists()
    kill(asking)
    end = time.monotonic() + 30
    while process.exists() and time.monotonic() < end:
        time.sleep(0.2)
    assert not process.exists()


def test_only_a_training_under_a_grid_goes_to_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not remote_command.wanted("train")
    monkeypatch.setenv(remote_command.ELSEWHERE, "1")
    assert remote_command.wanted("train")
    assert not remote_command.wanted("decode")
