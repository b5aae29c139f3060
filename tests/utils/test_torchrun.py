"""What a process knows of the torchrun that started it, and how its ranks are stopped."""

import signal
import subprocess
import sys

import pytest

from seqkd.utils import torchrun

WORLD = {"RANK": "2", "WORLD_SIZE": "4", "MASTER_ADDR": "node1", "MASTER_PORT": "29400", "LOCAL_RANK": "1"}


def _set(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_process_of_its_own_is_the_main_one_of_a_world_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WORLD:
        monkeypatch.delenv(name, raising=False)
    assert (torchrun.is_rank(), torchrun.world(), torchrun.local_rank(), torchrun.is_main()) == (False, (0, 1), 0, True)


def test_a_rank_knows_its_number_here_and_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, **WORLD)
    assert (torchrun.is_rank(), torchrun.world(), torchrun.local_rank(), torchrun.is_main()) == (True, (2, 4), 1, False)


def test_a_single_rank_is_a_rank_so_that_it_starts_no_further_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, **WORLD | {"RANK": "0", "WORLD_SIZE": "1"})
    assert (torchrun.is_rank(), torchrun.is_main()) == (True, True)


def test_command_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchrun, "GRACE_SECONDS", 0.2)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    torchrun.stop(process)
    assert process.returncode == -signal.SIGKILL
