import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from seqkd.config.machine import Command
from seqkd.teachers import command
from seqkd.utils.errors import InputError

LINES = ["a house", "two houses", "three"]
UPPER = "import sys\nfor line in sys.stdin:\n    print(line.strip().upper())\n"


def program(code: str, **settings: Any) -> Command:
    return Command(argv=[sys.executable, "-c", code], **settings)


def translated(own: Command, lines: list[str] = LINES) -> list[str]:
    batches = command.translate("own", own, [lines])
    return [hypotheses[0].text for batch in batches for _, hypotheses in batch]


def test_command_translates_line_by_line_in_batches() -> None:
    assert translated(program(UPPER)) == ["A HOUSE", "TWO HOUSES", "THREE"]
    assert translated(program(UPPER, batch=2)) == ["A HOUSE", "TWO HOUSES", "THREE"]


def test_command_is_not_read_by_a_shell(tmp_path: Path) -> None:
    own = Command(argv=[sys.executable, "-c", UPPER, f"; touch {tmp_path}/made", f"$(touch {tmp_path}/made)"])
    assert len(translated(own)) == 3
    assert not list(tmp_path.iterdir())


def test_command_may_write_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    noisy = f"import sys\nsys.stderr.write('loading ' * 100000)\n{UPPER}"
    assert translated(program(noisy)) == ["A HOUSE", "TWO HOUSES", "THREE"]
    assert capfd.readouterr().err == ""


FAULTS: dict[str, tuple[str, dict[str, object], str]] = {
    "dies": ("raise SystemExit(3)", {}, "it ended with exit code 3, 4 times; the batch begins with 'a house'."),
    "is killed": ("import os; os.kill(os.getpid(), 11)", {}, "it ended with signal 11, 4 times;"),
    "explains its death": ("raise ValueError('no key')", {}, "exit code 1 (ValueError: no key), 4 times;"),
    "prints nothing": ("pass", {}, "0 lines came back for 3, the first of them 'a house'; let it write one line"),
    "prints twice": (f"{UPPER}    print(line.strip())\n", {}, "6 lines came back for 3, the first of them 'a house';"),
    "sleeps for ever": ("import time; time.sleep(999)", {"time_limit": 0.3}, "longer than its time_limit of 0.3 s, 4"),
    "writes no UTF-8": ("import os; os.write(1, b'\\xff\\n' * 3)", {}, "its output is not UTF-8; let it write UTF-8."),
    "writes without end": ("import sys\nwhile True: sys.stdout.write('x' * 65536)", {}, "it wrote more than 1,049,"),
    "eats memory": ("x = b'x' * 300_000_000\nimport time; time.sleep(60)", {"memory_limit": 100}, "memory_limit of"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_command_that_fails_is_told_in_a_sentence_and_leaves_nothing_running(name: str) -> None:
    code, settings, expected = FAULTS[name]
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(InputError) as refusal:
        translated(program(code, **settings))
    assert expected in str(refusal.value)
    assert str(refusal.value).startswith("machine.yaml: commands.own: ")
    assert str(refusal.value).endswith(".")
    assert set(psutil.Process().children(recursive=True)) == before


def test_command_that_cannot_be_started_is_told_at_once() -> None:
    with pytest.raises(InputError, match=r"commands\.own\.argv: /no/such cannot be started \(no such file"):
        translated(Command(argv=["/no/such"]))


def test_command_that_dies_is_started_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tries = tmp_path / "tries"
    flaky = f"open({str(tries)!r}, 'a').write('x')\nif len(open({str(tries)!r}).read()) < 4: raise SystemExit(1)\n"
    assert translated(program(flaky + UPPER)) == ["A HOUSE", "TWO HOUSES", "THREE"]
    assert tries.read_text() == "xxxx"
    assert capsys.readouterr().err.count("starting it again") == 3


def test_children_of_a_command_end_with_it(tmp_path: Path) -> None:
    pid = str(tmp_path / "pid")
    parent = f"import subprocess\nprint(subprocess.Popen(['sleep', '99']).pid, file=open({pid!r}, 'w'))\n"
    assert len(translated(program(parent + UPPER))) == 3
    assert _is_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a program whose parent was killed")
def test_command_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    inner = (
        f"import os, time; print(os.getpid(), file=open({str(tmp_path / 'pid')!r}, 'w'), flush=True); time.sleep(99)"
    )
    outer = (
        "import sys; from seqkd.config.machine import Command; from seqkd.teachers import command\n"
        f"list(command.translate('own', Command(argv=[sys.executable, '-c', {inner!r}]), [['a']]))"
    )
    running = subprocess.Popen([sys.executable, "-c", outer])
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert _is_gone(int((tmp_path / "pid").read_text()))


def _is_gone(pid: int) -> bool:
    """Whether a process ends within a few seconds; a zombie has ended."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False
