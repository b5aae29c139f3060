"""The front door: `seqkd <stage> ...` runs `main` of stages/<stage>.py; nothing else is imported for it."""

import ast
import importlib
import os
import sys
from pathlib import Path

from seqkd.errors import InputError

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
    other = Path.cwd() / "seqkd" / "__main__.py"
    return other.is_file() and not other.samefile(__file__)


def _run_there() -> int:
    """Queued and --temp experiments run in a clone: there its own code runs, not that of the installed checkout."""
    sys.path.insert(0, os.getcwd())
    for name in [name for name in sys.modules if name.partition(".")[0] in ("seqkd", "stages")]:
        del sys.modules[name]
    code: int = importlib.import_module("seqkd.__main__").main()
    return code


def _guarded(name: str, arguments: list[str]) -> int:
    """The exit code of a stage; an InputError and a keyboard interrupt end in one line, anything else is a bug."""
    try:
        run(name, arguments)
    except InputError as error:
        print(f"seqkd {name}: {error}", file=sys.stderr)
        return 1
    except SystemExit as stop:
        if stop.code != 130:
            raise
    except KeyboardInterrupt:
        pass
    else:
        return 0
    print(f"seqkd {name}: stopped", file=sys.stderr)
    return 130


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
    """The exit code: 0, 1 for an InputError, 2 for a wrong command line, 130 for an interrupt."""
    if _elsewhere():
        return _run_there()
    try:
        try:
            return _open(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader left early, as in `seqkd ... | head`: no error, nor at the flush on exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
