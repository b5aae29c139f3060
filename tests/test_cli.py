import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT

HEAVY = ("torch", "pandas", "dvc", "numpy", "typer", "pydantic", "rich", "seqkd.config")

STAGES = {
    "__init__.py": "",
    "greet.py": '''"""greet: a word for every name.

More about it.
"""
from typing import Annotated

import typer

from source_tree import ROOT
from seqkd.errors import InputError

def main(*, name: Annotated[str, typer.Option()], max_times: int = 1) -> None:
    if name == "nobody":
        raise InputError("names.txt, line 3: nobody is not a name; write one.")
    if name == "bug":
        raise ValueError("a bug")
    for _ in range(max_times):
        print(f"hello {name}")
''',
    "dead_end.py": '"""dead_end: imports what is not there."""\nimport not_there\n',
    "sleep.py": '"""Waits for the user."""\nimport time\n\ndef main() -> None:\n'
    '    print("ready", flush=True)\n    time.sleep(60)\n',
    "_shared.py": "",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Another checkout than the installed one: the same front door, stages of its own."""
    for name in ("__init__.py", "__main__.py", "errors.py", "lifetime.py", "resume.py", "whole.py"):
        (tmp_path / "seqkd").mkdir(exist_ok=True)
        (tmp_path / "seqkd" / name).write_bytes((ROOT / "seqkd" / name).read_bytes())
    (tmp_path / "stages").mkdir()
    for name, text in STAGES.items():
        (tmp_path / "stages" / name).write_text(text)
    return tmp_path


def seqkd(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("seqkd")), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_help_lists_every_stage_with_the_first_line_of_its_docstring_and_imports_none(checkout: Path) -> None:
    done = seqkd("--help", cwd=checkout)
    assert done.stdout.splitlines()[2:5] == [
        "  dead_end  imports what is not there.",
        "  greet     a word for every name.",
        "  sleep     Waits for the user.",
    ]
    assert done.returncode == 0
    assert "_shared" not in done.stdout
    assert seqkd(cwd=checkout).stdout == seqkd("-h", cwd=checkout).stdout == done.stdout


def test_help_names_the_stages_of_this_project() -> None:
    own = {path.stem for path in (ROOT / "stages").glob("[a-z]*.py")}
    assert {line.split()[0] for line in seqkd("--help").stdout.splitlines() if line.startswith("  ")} == own


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, seqkd.__main__ as m; m.overview(); print([n for n in {HEAVY} if n in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT) == "[]\n"


def test_a_stage_runs_with_its_own_options(checkout: Path) -> None:
    done = seqkd("greet", "--name", "Ada", "--max-times", "2", cwd=checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello Ada\nhello Ada\n", "")


def test_a_stage_explains_its_options(checkout: Path) -> None:
    done = seqkd("greet", "--help", cwd=checkout)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: seqkd greet [OPTIONS]\n\n  a word for every name.")
    assert "--max-times" in done.stdout


def test_a_missing_option_is_a_usage_error(checkout: Path) -> None:
    done = seqkd("greet", cwd=checkout)
    assert done.returncode == 2
    assert "Missing option '--name'" in done.stderr


def test_an_input_error_is_one_line_and_no_traceback(checkout: Path) -> None:
    done = seqkd("greet", "--name", "nobody", cwd=checkout)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "seqkd greet: names.txt, line 3: nobody is not a name; write one.\n"


def test_a_bug_keeps_its_plain_traceback(checkout: Path) -> None:
    done = seqkd("greet", "--name", "bug", cwd=checkout)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("\nValueError: a bug\n")


def test_an_unknown_stage_is_answered_with_the_nearest_name(checkout: Path) -> None:
    done = seqkd("great", cwd=checkout)
    assert (done.returncode, done.stderr) == (2, "seqkd: there is no stage great; did you mean greet?\n")
    assert seqkd("xyz", cwd=checkout).stderr == "seqkd: there is no stage xyz; seqkd --help lists the stages.\n"


def test_a_hyphen_stands_for_an_underscore(checkout: Path) -> None:
    assert "No module named 'not_there'" in seqkd("dead-end", cwd=checkout).stderr


@pytest.mark.parametrize(
    "locale", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}]
)
def test_any_text_is_printed_whatever_the_locale(checkout: Path, locale: dict[str, str]) -> None:
    (checkout / "stages/say.py").write_text(
        "def main() -> None:\n    print('saß \\u05d0', '\\udcff')\n", encoding="utf-8"
    )
    command = [str(Path(sys.executable).with_name("seqkd")), "say"]
    done = subprocess.run(command, cwd=checkout, env=os.environ | locale, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "saß \u05d0 ".encode() + b"\xff\n", b"")


def test_a_working_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    command = 'mkdir gone; cd gone; rmdir ../gone; "$0" "$@"'
    program = str(Path(sys.executable).with_name("seqkd"))

    def there(*words: str) -> subprocess.CompletedProcess[str]:
        started = ["sh", "-c", command, program, *words]
        return subprocess.run(started, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert there("--help").stdout == seqkd("--help").stdout
    told = there("validate", "--out", "x")
    assert told.returncode == 1
    assert told.stderr == "seqkd validate: the working folder is gone, or closed to you; change to another one.\n"


def test_a_broken_configuration_of_dvc_is_no_hindrance_to_a_stage_that_needs_none(checkout: Path) -> None:
    (checkout / ".dvc").mkdir()
    (checkout / ".dvc/config").write_text("blah\n")
    done = seqkd("greet", "--name", "Ada", cwd=checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello Ada\n", "")


def test_an_interrupt_ends_in_one_word(checkout: Path) -> None:
    command = [str(Path(sys.executable).with_name("seqkd")), "sleep"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests run in the background are deaf to it
    with subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=10)[1] == "seqkd sleep: stopped\n"
        assert running.returncode == 130


@pytest.mark.parametrize("words", ["greet --name Ada --max-times 99999", "greet --name Ada", "--help"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_early_is_no_error(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, *, words: str, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    command = [str(Path(sys.executable).with_name("seqkd")), *words.split()]
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(OSError, match=os.strerror(errno.EPIPE)):
        os.write(writing, b"x")
    done = subprocess.run(command, cwd=checkout, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.stderr == b""
