"""The command line: `python -m seqkd STAGE` in a checkout of its own, and the installed command."""

import errno
import inspect
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from source_tree import ROOT

import seqkd
from seqkd import cli

HEAVY = ("torch", "pandas", "dvc", "numpy", "typer", "pydantic", "rich", "seqkd.config")
PROGRAM = str(Path(sys.executable).with_name("seqkd"))

STAGES = {
    "greet.py": '''"""greet: a word for every name.

More about it.
"""
from typing import Annotated

import typer

from stages import _shared
from seqkd.utils.errors import InputError

def main(*, name: Annotated[str, typer.Option()], max_times: int = 1) -> None:
    if name == "nobody":
        raise InputError("names.txt, line 3: nobody is not a name; write one.")
    if name == "bug":
        raise ValueError("a bug")
    for _ in range(max_times):
        print(f"{_shared.WORD} {name}")
''',
    "dead_end.py": '"""dead_end: imports what is not there."""\nimport not_there\n',
    "sleep.py": '''"""Waits for the user."""
import time
from pathlib import Path
from typing import Annotated

import typer

WRITES = "{out}/{row}"

def main(row: Annotated[str, typer.Argument()] = "a", *, out: Path = Path("x")) -> None:
    print("ready", flush=True)
    time.sleep(60)
''',
    "_shared.py": 'WORD = "hello"\n',
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Another checkout than the one that is installed: the same library, stages of its own."""
    shutil.copytree(ROOT / "seqkd", tmp_path / "seqkd", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "stages").mkdir()
    for name, text in STAGES.items():
        (tmp_path / "stages" / name).write_text(text)
    return tmp_path


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seqkd", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_help_lists_every_stage_with_the_first_line_of_its_docstring_and_imports_none(checkout: Path) -> None:
    done = run("--help", cwd=checkout)
    assert done.stdout.splitlines()[2:5] == [
        "  dead_end  imports what is not there.",
        "  greet     a word for every name.",
        "  sleep     Waits for the user.",
    ]
    assert done.returncode == 0
    assert "_shared" not in done.stdout
    assert run(cwd=checkout).stdout == run("-h", cwd=checkout).stdout == done.stdout


def test_help_names_the_stages_of_this_project() -> None:
    own = {path.stem for path in (ROOT / "stages").glob("[a-z]*.py")}
    assert {line.split()[0] for line in run("--help").stdout.splitlines() if line.startswith("  ")} == own


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, seqkd.cli as cli; cli.overview(); print([n for n in {HEAVY} if n in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT) == "[]\n"


def test_version_is_that_of_the_package() -> None:
    assert run("--version").stdout == f"seqkd {seqkd.__version__}\n"


def test_version_stands_in_the_changelog_and_the_citation() -> None:
    newest = re.search(r"^## \[?(\d[^\]\s]*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert cited is not None
    assert newest[1] == cited[1] == seqkd.__version__


def test_cli_runs_a_stage_with_its_own_options_and_a_helper_file_beside_it(checkout: Path) -> None:
    done = run("greet", "--name", "Ada", "--max-times", "2", cwd=checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello Ada\nhello Ada\n", "")


def test_cli_explains_the_options_of_a_stage(checkout: Path) -> None:
    done = run("greet", "--help", cwd=checkout)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: seqkd greet [OPTIONS]\n\n  a word for every name.")
    assert "--max-times" in done.stdout


def test_cli_as_installed_runs_its_own_stages_in_any_folder(checkout: Path) -> None:
    done = subprocess.run(
        [PROGRAM, "greet", "--name", "Ada"], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "seqkd: there is no stage greet; seqkd --help lists the stages.\n")


def test_cli_ignores_a_package_called_stages_in_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__init__.py").write_text("raise SystemExit('run')\n")
    (tmp_path / "stages/show.py").write_text("raise SystemExit('run')\n")
    done = run("show", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_cli_calls_a_missing_option_a_usage_error(checkout: Path) -> None:
    done = run("greet", cwd=checkout)
    assert done.returncode == 2
    assert "Missing option '--name'" in done.stderr


def test_cli_shows_an_input_error_as_one_line_and_no_traceback(checkout: Path) -> None:
    done = run("greet", "--name", "nobody", cwd=checkout)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "seqkd greet: names.txt, line 3: nobody is not a name; write one.\n"


def test_cli_shows_a_bug_with_its_plain_traceback(checkout: Path) -> None:
    done = run("greet", "--name", "bug", cwd=checkout)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("\nValueError: a bug\n")


def test_cli_answers_an_unknown_stage_with_the_nearest_name(checkout: Path) -> None:
    done = run("great", cwd=checkout)
    assert (done.returncode, done.stderr) == (2, "seqkd: there is no stage great; did you mean greet?\n")
    assert run("xyz", cwd=checkout).stderr == "seqkd: there is no stage xyz; seqkd --help lists the stages.\n"


def test_cli_takes_a_hyphen_for_an_underscore(checkout: Path) -> None:
    assert "No module named 'not_there'" in run("dead-end", cwd=checkout).stderr


@pytest.mark.parametrize("library", ["pandas", "vl_convert"])
def test_cli_says_what_to_install_where_a_library_of_the_pipeline_is_missing(checkout: Path, library: str) -> None:
    top = library.partition(".")[0]
    (checkout / "stages/draw.py").write_text(f"import {library}\n\ndef main() -> None: ...\n")
    hide = f"import sys; sys.modules[{top!r}] = None; sys.argv = ['seqkd', 'draw']\nfrom seqkd.cli import main"
    command = [sys.executable, "-c", f"{hide}\nsys.exit(main())"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"seqkd draw needs {top}; pip install 'seqkd[pipeline]' brings it.\n")


def test_cli_knows_the_libraries_of_pyprojects_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    modules = {"vl-convert-python": "vl_convert"}  # all others are imported by the name of their package
    for extra, libraries in cli.EXTRAS.items():
        names = [re.split(r"[<>=]", requirement)[0] for requirement in extras[extra]]
        assert {modules.get(name, name) for name in names} == libraries
    assert all(find_spec(library) for library in cli.EXTRAS["pipeline"])


@pytest.mark.parametrize(
    "locale", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}]
)
def test_any_text_is_printed_whatever_the_locale(checkout: Path, locale: dict[str, str]) -> None:
    (checkout / "stages/say.py").write_text(
        "def main() -> None:\n    print('saß \\u05d0', '\\udcff')\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "seqkd", "say"]
    done = subprocess.run(command, cwd=checkout, env=os.environ | locale, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "saß \u05d0 ".encode() + b"\xff\n", b"")


def test_cli_says_in_one_sentence_that_the_working_folder_is_gone(tmp_path: Path) -> None:
    command = 'mkdir gone; cd gone; rmdir ../gone; "$0" "$@"'

    def run_in_it(*words: str) -> subprocess.CompletedProcess[str]:
        started = ["sh", "-c", command, PROGRAM, *words]
        return subprocess.run(started, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run_in_it("--help").stdout == run("--help").stdout
    refused = run_in_it("validate", "--out", "x")
    assert refused.returncode == 1
    assert refused.stderr == "seqkd validate: the working folder is gone, or closed to you; change to another one.\n"


def test_cli_runs_a_stage_that_needs_no_dvc_beside_its_broken_configuration(checkout: Path) -> None:
    (checkout / ".dvc").mkdir()
    (checkout / ".dvc/config").write_text("blah\n")
    done = run("greet", "--name", "Ada", cwd=checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello Ada\n", "")


def sleeping(checkout: Path, *options: str) -> subprocess.Popen[str]:
    """A stage at work."""
    command = [sys.executable, "-m", "seqkd", "sleep", *options]
    process = subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_cli_ends_an_interrupt_in_one_word(checkout: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests run in the background are deaf to it
    with sleeping(checkout) as running:
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=10)[1] == "seqkd sleep: stopped\n"
        assert running.returncode == 130


def test_cli_locks_what_a_stage_says_it_writes(checkout: Path) -> None:
    with sleeping(checkout, "b", "--out", "models") as running:
        second = run("sleep", "b", f"--out={checkout}/models", cwd=checkout)
        assert (second.returncode, second.stdout) == (1, "")
        assert second.stderr.startswith(f"seqkd sleep: process {running.pid} is at work on {checkout}/models/b; ")
        with sleeping(checkout, "c", "--out", "models") as another:
            another.kill()
        running.kill()


@pytest.mark.parametrize("name", sorted(cli.stage_files()))
def test_writes_of_a_stage_is_made_of_its_parameters(name: str) -> None:
    """And every stage that has `out` or a row says it."""
    stage = cli.load_stage(name)
    parameters = set(inspect.signature(stage.main).parameters)
    named = set(re.findall(r"{(\w+)}", getattr(stage, "WRITES", "")))
    assert named <= parameters
    assert (parameters & {"out", "row"}) <= named


@pytest.mark.parametrize("words", ["greet --name Ada --max-times 99999", "greet --name Ada", "--help"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_cli_takes_a_reader_that_leaves_early_for_no_error(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, *, words: str, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    command = [sys.executable, "-m", "seqkd", *words.split()]
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(OSError, match=os.strerror(errno.EPIPE)):
        os.write(writing, b"x")
    done = subprocess.run(command, cwd=checkout, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.stderr == b""
