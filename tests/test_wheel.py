"""The wheel: built, unpacked away from the checkout, it translates with the base libraries alone."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from networks import save_untrained_model
from source_tree import ROOT

import seqkd
from seqkd import cli

pytestmark = pytest.mark.slow

TEXT = ["a dog ran", "the cat sat on the mat"]
SOURCES = ("seqkd", "stages", "pyproject.toml", "setup.py", "README.md", "LICENSE")

# Runs in a folder of its own: refuses the libraries of the extra `pipeline`, then runs what stands after it.
GUARD = """
import sys, os
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in %r:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

# An editable install of a checkout must not answer for the wheel, and its `stages` not for nobody's.
sys.meta_path[:] = [Refuse(), *(finder for finder in sys.meta_path if "Editable" not in repr(finder))]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network from a copy, so that nothing of an earlier build is in it."""
    folder = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        "dist",
        ".",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("dist/*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel was installed into."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--target"]
    subprocess.run([*command, str(folder), str(wheel)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained_model(tmp_path_factory.mktemp("model"), TEXT)


def run(installed: Path, code: str, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Python code, after GUARD, with the installed wheel before the libraries of this environment."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", f"{GUARD % sorted(set().union(*cli.EXTRAS.values()))}\n{code}", *words]
    return subprocess.run(
        command, cwd=installed.parent, env=environment, input=text, capture_output=True, text=True, check=False
    )


def test_wheel_holds_every_package_and_puts_nothing_else_on_the_path(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("seqkd/**/*.py")}
    for pattern in ("export/browser/*", "demo/page.*", "demo/*.yaml"):
        sources |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob(f"seqkd/{pattern}")}
    stages = {f"seqkd/_stages/{path.name}" for path in ROOT.glob("stages/*.py")}
    about = f"seqkd-{seqkd.__version__}.dist-info"
    data = {"seqkd/py.typed", "seqkd/evaluation/hard_lines.tsv"}
    data |= {f"seqkd/reporting/page/{name}" for name in ("page.css", "page.html", "page.js", "watch.html", "watch.js")}
    assert {name for name in names if not name.startswith(about)} == sources | stages | data


def test_wheel_translates_and_exports_without_the_libraries_of_the_pipeline(
    installed: Path, model: Path, tmp_path: Path
) -> None:
    """As a command and as a library, in one process, because compiling the loops takes most of the time."""
    code = """
import seqkd, seqkd.cli
assert seqkd.__file__.startswith(sys.argv[1]), seqkd.__file__
try:
    import stages
except ModuleNotFoundError:
    pass
else:
    raise AssertionError(stages.__path__)
for line in seqkd.load(sys.argv[2], device="cpu").translate(sys.stdin.read().splitlines()):
    print(line)
sys.argv[1:] = ["export", "--model", sys.argv[2], "--out", sys.argv[3]]
try:
    seqkd.cli.main()
except SystemExit as stop:
    assert not stop.code
"""
    done = run(installed, code, str(installed), str(model), str(tmp_path / "int8"), text="\n".join(TEXT))
    assert (done.returncode, done.stderr) == (0, "")
    *lines, exported = done.stdout.splitlines()
    assert lines == seqkd.load(model, device="cpu").translate(TEXT)
    assert exported.startswith(f"{tmp_path}/int8: weights ")


def test_wheels_command_translates_and_asks_for_the_extra_where_it_is_needed(installed: Path, model: Path) -> None:
    command = "from seqkd.cli import main; sys.exit(main())"
    done = run(installed, command, "translate", "--model", str(model), text="\n".join(TEXT))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == seqkd.load(model).translate(TEXT)
    refused = run(installed, command, "report", "--scores", "s", "--curves", "c", "--audits", "a", "--out", "o")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("seqkd report needs ")
    assert refused.stderr.endswith("; pip install 'seqkd[pipeline]' brings it.\n")
    refused = run(installed, command, "export", "--model", str(model), "--to", "onnx", "--out", "o")
    assert refused.stderr.endswith("; pip install 'seqkd[onnx]' brings it.\n")
