"""The command line: `seqkd STAGE ...` runs the `main` of that stage's file; no other stage is imported for it."""

import ast
import functools
import importlib
import io
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from seqkd import __version__
from seqkd.utils.errors import InputError, StoppedError, describe_os_error, describe_system_error

_PACKAGE = Path(__file__).resolve().parent
# A wheel holds the stages in the package; in a checkout they stand beside it.
STAGES = _PACKAGE / "_stages" if (_PACKAGE / "_stages").is_dir() else _PACKAGE.parent / "stages"
EXTRAS = {  # of pyproject, and the libraries that each brings
    "pipeline": {
        *("dvc", "jinja2", "lxml", "mtdata", "pandas", "polib", "psutil", "sacrebleu", "tabulate", "vl_convert"),
    },
    "onnx": {"onnx", "onnxruntime"},
    "demo": {"starlette", "uvicorn"},
}


def main() -> int:
    """Run the command line and return its exit code.

    0; 1 for an InputError or what the system refused; 2 for a wrong command line; 128 + the number of a signal.
    """
    _prepare_streams()
    try:
        try:
            return _dispatch(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader left early, as in `seqkd ... | head`: no error, nor at the flush on exit
        _discard_stdout()
        return 1
    except OSError as error:  # at the flush: standard output is a file on a full disk
        if sentence := describe_os_error(error):
            _discard_stdout()
            return _report_error("", sentence)
        raise


def stage_files() -> dict[str, Path]:
    """Return each stage's name and file, sorted by name; a file that begins with _ is no stage."""
    return {path.stem: path for path in sorted(STAGES.glob("*.py")) if not path.stem.startswith("_")}


def summary(path: Path) -> str:
    """Return the first line of a stage's docstring without the stage's own name, read without running the file."""
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return first.removeprefix(f"{path.stem}:").strip()


def overview() -> str:
    """Return the text of `seqkd --help`: one line a stage."""
    files = stage_files()
    width = max((len(name) for name in files), default=0) + 2
    lines = [f"  {name:<{width}}{summary(path)}" for name, path in files.items()]
    return "\n".join(["Usage: seqkd STAGE [OPTIONS]", "", *lines, "", "seqkd STAGE --help lists a stage's options."])


def find_stage(word: str) -> str:
    """Return the stage a user means by word (- and _ are alike). Raises InputError, with the nearest name, for none."""
    names = list(stage_files())
    name = word.replace("-", "_")
    if name in names:
        return name
    import difflib

    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "seqkd --help lists the stages."
    raise InputError(f"there is no stage {word}; {hint}")


def load_stage(name: str) -> ModuleType:
    """Import a stage's file as stages.<name>.

    The package `stages` is made here, in this process alone, so that a stage can import a helper file beside it and
    nobody's path needs to hold a package of that name.
    """
    if "stages" not in sys.modules:
        package = ModuleType("stages")
        package.__path__ = [str(STAGES)]
        sys.modules["stages"] = package
    return importlib.import_module(f"stages.{name}")


def run_stage(name: str, arguments: list[str]) -> None:
    """Run a stage's main with the command line as its parameters. Ends in SystemExit, or in what main raises."""
    import typer

    stage = load_stage(name)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, help=stage.main.__doc__ or summary(stage_files()[name]))(_guarded(stage, [name, *arguments]))
    typer.main.get_command(app).main(args=arguments, prog_name=f"seqkd {name}")


def _guarded(stage: ModuleType, words: list[str]) -> Callable[..., None]:
    """Return the stage's main, holding a lock on what it writes while it runs; or what starts it on several machines.

    A stage says what it writes in WRITES, such as "{models}/{row}", a path in which its parameters stand by name. One
    that trains is started by machine.yaml's torchrun, where that is named: with the same words on each machine.
    """
    from seqkd.config import load
    from seqkd.utils import process_control, remote_command, torchrun

    writes: str | None = getattr(stage, "WRITES", None)

    @functools.wraps(stage.main)
    def run(**parameters: Any) -> None:
        trains = words[0] in remote_command.TRAININGS and not torchrun.is_rank()
        launcher = load.machine().torchrun if trains else None
        if launcher:
            torchrun.launch(launcher, words)
            return
        path = Path(writes.format(**parameters)) if writes and torchrun.is_main() else None
        with process_control.exclusive_lock(path) if path else nullcontext():
            stage.main(**parameters)

    return run


def _dispatch(words: list[str]) -> int:
    word, *arguments = words or ["--help"]
    if word in ("--help", "-h"):
        print(overview())
        return 0
    if word == "--version":
        print(f"seqkd {__version__}")
        return 0
    try:
        name = find_stage(word)
    except InputError as error:
        print(f"seqkd: {error}", file=sys.stderr)
        return 2
    return _run_guarded(name, arguments)


def _run_guarded(name: str, arguments: list[str]) -> int:
    """Run a stage and return its exit code: a fault of the user or the system, and a signal, give one line.

    Everything else is a bug and keeps its traceback.
    """
    from seqkd.utils import cache_dir, process_control, remote_command, torchrun

    try:
        os.getcwd()
    except OSError:
        return _report_error(name, "the working folder is gone, or closed to you; change to another one.")
    start_time = time.time()
    process_control.exit_with_dvc()
    try:
        with process_control.raise_on_signals():
            if remote_command.wanted(name):
                _run_elsewhere(name, arguments)
            run_stage(name, arguments)
    except InputError as error:
        return _report_error(name, str(error))
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        for extra, libraries in EXTRAS.items():
            if library in libraries:
                print(f"seqkd {name} needs {library}; pip install 'seqkd[{extra}]' brings it.", file=sys.stderr)
                return 1
        raise
    except (OSError, MemoryError, RuntimeError) as error:
        if sentence := describe_system_error(error):
            return _report_error(name, sentence)
        raise
    except StoppedError as stop:
        _report_error(name, str(stop))
        return 128 + stop.signal
    finally:
        torchrun.leave()
        cache_dir.collect_garbage(start_time)
    return 0


def _run_elsewhere(name: str, arguments: list[str]) -> NoReturn:
    """Run a stage on a worker of the cluster that machine.yaml names. Ends in SystemExit with its exit code."""
    from seqkd.config import load
    from seqkd.utils import remote_command

    if (workers := load.machine().workers) is None:
        raise InputError("machine.yaml names no cluster any more; run seqkd grid again.")
    raise SystemExit(remote_command.run(["-m", "seqkd", name, *arguments], workers))


def _report_error(name: str, sentence: str) -> int:
    print(f"{f'seqkd {name}'.rstrip()}: {sentence}", file=sys.stderr)
    return 1


def _prepare_streams() -> None:
    """Make standard output and error UTF-8 whatever the locale; a path may hold any bytes."""
    for name, errors in (("stdout", "surrogateescape"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open to the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)


def _discard_stdout() -> None:
    """Send what is still to be flushed to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
