"""The front door: `seqkd <stage> ...` runs `main` of stages/<stage>.py; nothing else is imported for it."""

import ast
import importlib
import io
import itertools
import os
import sys
import time
from pathlib import Path

from seqkd.utils.errors import InputError, StoppedError, describe_os_error

STAGES = Path(__file__).resolve().parent.parent / "stages"


def stages() -> dict[str, Path]:
    """Each stage's name and file, in the order of the names."""
    return {path.stem: path for path in sorted(STAGES.glob("*.py")) if not path.stem.startswith("_")}


def summary(path: Path) -> str:
    """The first line of a stage's docstring without the stage's own name, read without running the file."""
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return first.removeprefix(f"{path.stem}:").strip()


def overview() -> str:
    """The text of `seqkd --help`: one line a stage."""
    found = stages()
    width = max((len(name) for name in found), default=0) + 2
    lines = [f"  {name:<{width}}{summary(path)}" for name, path in found.items()]
    return "\n".join(["Usage: seqkd STAGE [OPTIONS]", "", *lines, "", "seqkd STAGE --help lists a stage's options."])


def find(word: str) -> str:
    """The stage a user means by word (- and _ are alike). Raises InputError, with the nearest name, for none."""
    names = list(stages())
    name = word.replace("-", "_")
    if name in names:
        return name
    import difflib

    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "seqkd --help lists the stages."
    raise InputError(f"there is no stage {word}; {hint}")


def run(name: str, arguments: list[str]) -> None:
    """The stage's main with the command line as its parameters. Ends in SystemExit, or in what main raises."""
    import typer

    module = importlib.import_module(f"stages.{name}")
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, help=module.main.__doc__ or summary(STAGES / f"{name}.py"))(module.main)
    typer.main.get_command(app).main(args=arguments, prog_name=f"seqkd {name}")


def _elsewhere() -> bool:
    """Whether the working directory is another checkout than this file's."""
    other = os.path.join("seqkd", "__main__.py")
    return os.path.isfile(other) and not os.path.samefile(other, __file__)


def _run_there() -> int:
    """Queued and --temp experiments run in a clone: there its own code runs, not that of the installed checkout."""
    sys.path.insert(0, os.getcwd())
    for name in [name for name in sys.modules if name.partition(".")[0] in ("seqkd", "stages")]:
        del sys.modules[name]
    code: int = importlib.import_module("seqkd.__main__").main()
    return code


def _guarded(name: str, arguments: list[str]) -> int:
    """The exit code of a stage; what user or system is at fault for and a signal give one line, the rest is a bug."""
    from contextlib import nullcontext

    from seqkd.utils import cache_dir, process_control

    try:
        os.getcwd()
    except OSError:
        return _told(name, "the working folder is gone, or closed to you; change to another one.")
    out, began = _out(arguments), time.time()
    process_control.exit_with_dvc()
    try:
        with process_control.raise_on_signals(), process_control.exclusive_lock(out) if out else nullcontext():
            run(name, arguments)
    except InputError as error:
        return _told(name, str(error))
    except OSError as error:
        if sentence := describe_os_error(error):
            return _told(name, sentence)
        raise
    except StoppedError as stop:
        _told(name, str(stop))
        return 128 + stop.signal
    finally:
        cache_dir.collect_garbage(began)
    return 0


def _out(arguments: list[str]) -> Path | None:
    """What a stage writes, which no other process may write meanwhile: its folder, and the row it begins with."""
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    row = "" if not words or words[0].startswith("-") else words[0].rpartition("@")[2]
    given = dict(itertools.pairwise(words))
    folder = given.get("--out") or (given.get("--models") if row else None)
    return Path(folder, row) if folder else None


def _told(name: str, sentence: str) -> int:
    print(f"{f'seqkd {name}'.rstrip()}: {sentence}", file=sys.stderr)
    return 1


def _open(words: list[str]) -> int:
    word, *arguments = words or ["--help"]
    if word in ("--help", "-h"):
        print(overview())
        return 0
    try:
        name = find(word)
    except InputError as error:
        print(f"seqkd: {error}", file=sys.stderr)
        return 2
    return _guarded(name, arguments)


def main() -> int:
    """The exit code: 0, 1 for an InputError, 2 for a wrong command line, 128 and a signal's number for that."""
    if _elsewhere():
        return _run_there()
    for name, errors in (("stdout", "surrogateescape"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open to the end
        elif isinstance(stream, io.TextIOWrapper):  # text is UTF-8 whatever the locale, a path the bytes that it is
            stream.reconfigure(encoding="utf-8", errors=errors)
    try:
        try:
            return _open(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader left early, as in `seqkd ... | head`: no error, nor at the flush on exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # at the flush: standard output is a file on a full disk
        if sentence := describe_os_error(error):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _told("", sentence)
        raise


if __name__ == "__main__":
    sys.exit(main())
