"""Training over ranks, processes with torchrun's variables: bits, lost ranks, ranks that do not belong together."""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import ranks_training
import torch

from seqkd.training.ranks import Ranks, bytes_sent

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
LONG = {"settings": {"epochs": 100}}  # enough to be killed in the middle
HOST = platform.node()


class Started:
    """Starts ranks of one training in a folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack, self.port = folder, stack, 0

    def write(self, **job: object) -> None:
        (self.folder / "job.json").write_text(json.dumps(job), encoding="utf-8")

    def ranks(self, *numbers: int, world_size: int, **changes: object) -> list[subprocess.Popen[str]]:
        """Start ranks of a world whose rank 0 listens at a free port; changes: of the job, for these ranks."""
        if 0 in numbers:
            with socket.socket() as found:
                found.bind(("127.0.0.1", 0))
                self.port = found.getsockname()[1]
        world = {"WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": self.port}
        return [self._start(world | {"RANK": number, "LOCAL_RANK": number}, changes) for number in numbers]

    def alone(self) -> subprocess.Popen[str]:
        return self._start({}, {})

    def _start(self, world: dict[str, object], changes: dict[str, object]) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "ranks_training.py"), str(self.folder), json.dumps(changes)],
            env=os.environ | {"PYTHONPATH": path} | {name: str(value) for name, value in world.items()},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stack.callback(process.kill)
        return process

    def result(self) -> Any:
        return json.loads((self.folder / "result.json").read_text(encoding="utf-8"))

    def wait_for_state(self) -> None:
        end = time.monotonic() + 120
        while not any((self.folder / "resume").glob("state-*")):
            assert time.monotonic() < end, "no state was saved"
            time.sleep(0.05)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    with ExitStack() as stack:
        yield Started(tmp_path, stack)


def _end(process: subprocess.Popen[str], *, within: float = 120) -> tuple[int, str]:
    """Return the exit code and the last line on stderr."""
    _, text = process.communicate(timeout=within)
    return process.returncode, (text.splitlines() or [""])[-1]


def test_the_bits_do_not_depend_on_the_number_of_ranks(started: Started) -> None:
    job: dict[str, Any] = {"own": True, "settings": {"keep_checkpoint": "best"}}
    started.write(**job)
    ranks_training.train(started.folder, job)
    expected = started.result()
    for world_size, processes in ((2, 2), (3, 1)):
        for path in [*(started.folder / "resume").iterdir(), started.folder / "result.json"]:
            path.unlink()
        ranks = started.ranks(*range(world_size), world_size=world_size, processes=processes)
        assert [_end(each)[0] for each in ranks] == [0] * world_size
        assert started.result() == expected


def test_a_lost_rank_ends_the_run_and_fewer_ranks_go_on_to_the_same_bits(started: Started) -> None:
    started.write(**LONG)
    assert _end(started.alone())[0] == 0
    expected = started.result()
    for path in [*(started.folder / "resume").iterdir(), started.folder / "result.json"]:
        path.unlink()
    first, second = started.ranks(0, 1, world_size=2)
    started.wait_for_state()
    second.kill()
    code, message = _end(first, within=30)
    assert code == 1
    assert message.startswith("a rank of this training is lost, or did not answer for 600 s, as rank 0 on " + HOST)
    assert message.endswith("it resumes from the last checkpoint.")
    assert _end(started.alone())[0] == 0
    assert started.result() == expected


def test_a_signal_to_any_rank_saves_the_state_and_stops_all(started: Started) -> None:
    """All stay until it is saved: torchrun ends a rank's neighbours as soon as it has ended."""
    started.write(**LONG, slow_save=True)
    first, second = started.ranks(0, 1, world_size=2)
    started.wait_for_state()
    (started.folder / "slow").touch()
    second.send_signal(signal.SIGTERM)
    stopped = 128 + signal.SIGTERM, "stopped; the state is saved, and the same command resumes from it"
    assert _end(second, within=30) == stopped
    assert (started.folder / "saved").exists()
    assert _end(first, within=30) == stopped


def test_ranks_that_do_not_come_are_named(started: Started) -> None:
    started.write(start_seconds=3)
    code, message = _end(started.ranks(0, world_size=2)[0])
    assert code == 1
    assert message == (
        f"1 of 2 ranks came within 3 s: {HOST}; rank 1 did not. Start the command on the other machines too, or with"
        " fewer ranks."
    )


def test_a_rank_without_rank_0_names_the_address(started: Started) -> None:
    started.write(start_seconds=2)
    started.port = 9  # where nobody listens
    code, message = _end(started.ranks(1, world_size=2)[0])
    assert code == 1
    assert message.startswith(f"rank 1 on {HOST}: nobody answers at 127.0.0.1:9 (")
    assert message.endswith("); start rank 0 there, or correct the address that torchrun was given.")


def test_a_rank_with_another_job_is_refused_by_its_machine(started: Started) -> None:
    started.write()
    ranks = [*started.ranks(0, world_size=2), *started.ranks(1, world_size=2, key="another")]
    assert [_end(each) for each in ranks] == [
        (
            1,
            f"{HOST} (rank 1) has other settings, text or models than {HOST} (rank 0); give all the same commit,"
            " params.yaml and artefacts (dvc pull).",
        )
    ] * 2


def test_a_rank_that_computes_other_bits_is_refused_unless_mixed(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("torch has one instruction set here")

    def ends(**job: object) -> list[tuple[int, str]]:
        started.write(**job)
        ranks = started.ranks(0, world_size=2)
        with monkeypatch.context() as other:
            other.setenv("ATEN_CPU_CAPABILITY", "avx2")
            ranks += started.ranks(1, world_size=2)
        return [_end(each) for each in ranks]

    for code, message in ends():
        assert code == 1
        assert message.startswith(
            f"{HOST} (rank 1, against rank 0): its instruction set of torch is AVX2, here it is A"
        )
        assert message.endswith("or set mixed: true in machine.yaml to accept other last bits.")
    assert [code for code, _ in ends(mixed=True)] == [0, 0]


def test_more_ranks_than_parts_of_a_batch_are_refused(started: Started) -> None:
    started.write(settings={"batch_size": 8})
    code, message = _end(started.ranks(0, 1, world_size=2)[0])
    assert code == 1
    assert message.startswith("train: 2 ranks for a batch of 1 parts; start fewer, or raise optim.student.shards")


def test_one_rank_alone_sends_nothing() -> None:
    tensor = torch.ones(2)
    Ranks().broadcast_tensors([tensor])
    assert Ranks().broadcast("value") == "value"
    assert bytes_sent(10, shards=4, ranks=1) == 0
    assert bytes_sent(10, shards=4, ranks=4) == 4 * 10 * 3 / 4 * 2  # as of a ring all-reduce
