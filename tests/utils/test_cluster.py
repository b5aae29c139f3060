"""The ordered map over a Dask cluster: a scheduler and workers in processes of their own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import cluster_work
import pytest
import torch
from source_tree import ROOT

from benchmarks.local_cluster import Local, kill
from seqkd.data import words
from seqkd.utils import cluster, cluster_worker, machine_identity
from seqkd.utils.cluster import Cluster, SharedWork
from seqkd.utils.errors import InputError

QUICK = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}  # a task is given up after two deaths, not four
DISK = (
    """exec unshare --map-root-user --mount bash -c 'mount -t tmpfs -o size=2m none "$PWD" && exec "$@"' bash "$@";"""
)
pytest.importorskip("distributed", reason="needs the extra cluster")
pytestmark = pytest.mark.slow


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Local]:
    monkeypatch.chdir(tmp_path)
    found = Local(tmp_path, environment=QUICK)
    with found.stack:
        yield found


def _work(local: Local, **rest: object) -> SharedWork:
    return SharedWork(Cluster(local.address), **rest)  # type: ignore[arg-type]


def test_results_come_in_the_order_of_the_items_while_workers_and_the_scheduler_die(local: Local) -> None:
    workers = [local.start_worker() for _ in range(2)]
    results = cluster.map_ordered(cluster_work.slow_double, iter(range(120)), _work(local))
    found = [next(results) for _ in range(10)]
    kill(workers[0])
    found += [next(results) for _ in range(20)]
    kill(local.scheduler)
    kill(workers[1])
    local.start_scheduler()
    local.start_worker()
    found += list(results)
    assert found == [2 * number for number in range(120)]


def test_a_scheduler_that_comes_back_late_is_waited_for(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gives up after CONNECT seconds, and then knows of no worker."""
    monkeypatch.setattr(cluster, "CONNECT", 1.0)
    worker = local.start_worker()
    results = cluster.map_ordered(cluster_work.slow_double, iter(range(20)), _work(local))
    found = [next(results) for _ in range(4)]
    kill(local.scheduler)
    kill(worker)
    time.sleep(4)
    local.start_scheduler()
    local.start_worker()
    assert found + list(results) == [2 * number for number in range(20)]


def test_a_frozen_worker_that_holds_results_is_waited_for(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = local.start_worker()
    results = cluster.map_ordered(cluster_work.double, iter(range(8)), _work(local))
    found = [next(results)]
    time.sleep(1)  # the next ones are done, and lie there
    monkeypatch.setattr(cluster, "WAIT", 0.5)
    os.killpg(worker.pid, signal.SIGSTOP)
    timer = Timer(4, os.killpg, (worker.pid, signal.SIGCONT))
    timer.start()
    try:
        found += [next(results) for _ in range(3)]
    finally:
        timer.join()
    assert found + list(results) == [2 * number for number in range(8)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_arrays_of_any_type_travel(dtype: torch.dtype) -> None:
    tensor = torch.arange(5).to(dtype)
    back = cluster_worker.deserialize(cluster_worker.serialize([tensor, tensor[:0]]))
    assert torch.equal(back[0], tensor)
    assert [part.dtype for part in back] == [dtype, dtype]
    assert back[1].numel() == 0


def test_files_travel_to_the_workers(local: Local) -> None:
    Path("common").mkdir()
    Path("common/file").write_text("for all,")
    for name in "ab":
        Path(name).write_text(f"for {name}")
    local.start_worker()
    shared = _work(local, inputs=[Path("common")], own_inputs=lambda name: [Path(name)])
    assert list(cluster.map_ordered(cluster_work.read, "ab", shared)) == ["a: for all, for a", "b: for all, for b"]
    [first] = Path().glob("worker*/**/seqkd/*")
    Path("common/file").write_text("for all others,")
    assert list(cluster.map_ordered(cluster_work.read, "a", shared)) == ["a: for all others, for a"]
    [second] = Path().glob("worker*/**/seqkd/*")
    assert first != second
    with pytest.raises(InputError, match=r"^/\S+: only files below this folder can be sent to .*; copy it here, or"):
        list(cluster.map_ordered(cluster_work.read, "ab", _work(local, inputs=[Path("common/file").absolute()])))


def test_a_task_that_workers_die_of_ends_in_one_sentence(local: Local) -> None:
    """Its nanny kills a worker that takes more memory than it may, and starts it again."""
    local.start_worker(nanny=True, memory="300MB")
    with pytest.raises(InputError, match=r"^lines 7 to 9: the workers died of it, the last was tcp://\S+; look at "):
        list(cluster.map_ordered(cluster_work.grow, [1], _work(local, describe=lambda _: "lines 7 to 9")))


def test_a_worker_whose_system_refuses_memory_is_named(local: Local) -> None:
    local.start_worker()
    with pytest.raises(InputError, match=rf"^{socket.gethostname()}: memory ran out; start fewer workers there \(--nw"):
        list(cluster.map_ordered(bytearray, [1 << 60], _work(local)))


def test_a_worker_of_two_threads_is_refused_by_its_machine(local: Local) -> None:
    local.start_worker(threads=2)
    with pytest.raises(InputError, match=rf"^{socket.gethostname()}: the worker has 2 threads; start it with --nthr"):
        list(cluster.map_ordered(cluster_work.double, [1], _work(local)))


@pytest.mark.parametrize("limit", ["trap '' XFSZ; ulimit -f 1000;", DISK], ids=["size of a file", "disk"])
def test_a_worker_without_space_is_named(limit: str, local: Local) -> None:
    if (
        "unshare" in limit
        and subprocess.run([*["unshare", "--map-root-user", "--mount", "true"]], check=False).returncode
    ):
        pytest.skip("this system mounts no disk for a test")
    Path("large").write_bytes(bytes(3_000_000))
    local.start_worker(limit=limit)
    with pytest.raises(InputError, match=rf"^{socket.gethostname()}: no space for the 3 MB of the work's files in /"):
        list(cluster.map_ordered(cluster_work.double, [1], _work(local, inputs=[Path("large")])))


def test_a_worker_of_another_version_or_processor_is_refused_unless_mixed() -> None:
    here = machine_identity.of("seqkd.utils.pool")
    machine_identity.check(here, dict(here), host="other")
    machine_identity.check(None, {}, host="other")
    with pytest.raises(InputError, match=r"^other: its version of numba is 0\.1, here it is \S+, so results would dif"):
        machine_identity.check(here, here | {"version of numba": "0.1"}, host="other")
    with pytest.raises(
        InputError, match=r"^other: its processor is i386, here it is .*; make the two the same, or set"
    ):
        machine_identity.check(here, here | {"processor": "i386"}, host="other")


@pytest.mark.parametrize("version", ["another", "older"])
def test_a_worker_of_another_version_is_named(version: str, local: Local) -> None:
    shutil.copytree(ROOT / "seqkd", "other/seqkd", ignore=shutil.ignore_patterns("__pycache__"))
    edited = Path("other/seqkd/data/words.py" if version == "another" else "other/seqkd/utils/cluster_worker.py")
    edited.write_text(edited.read_text().replace("class Task(", "class Before(") + "ANOTHER = True\n")
    local.environment["PYTHONPATH"] = str(Path("other").absolute())
    local.start_worker()
    sentence = {
        "another": rf"^{socket.gethostname()}: its version of seqkd's code is \w+, here it is \w+, so results would",
        "older": r"^tcp://127\.0\.0\.1:\d+: it has no seqkd, or one of another version \(.*Task.*\); run pip install '",
    }
    with pytest.raises(InputError, match=sentence[version]):
        list(cluster.map_ordered(words.count_words, ["a b"], _work(local)))


def test_an_address_where_nobody_listens_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(
        InputError, match=rf"^machine\.yaml, cluster: no scheduler answers at {address} \(.*\); start o"
    ):
        cluster.connect(address)
    file = tmp_path / "scheduler.json"
    with pytest.raises(InputError, match=r"cluster: there is no scheduler file \S+scheduler\.json; write tcp://"):
        cluster.connect(str(file))
    file.write_text(json.dumps({"address": address}))
    with pytest.raises(InputError, match=r"no scheduler answers at \S+scheduler\.json"):
        cluster.connect(str(file))


def test_a_scheduler_without_workers_is_refused(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WAIT", 0.5)
    with pytest.raises(InputError, match=rf"the scheduler at {local.address} has no worker; start some with `dask wor"):
        cluster.connect(local.address)
