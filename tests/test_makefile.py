"""The Makefile refuses what DVC would refuse later, in one sentence and before anything is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from source_tree import ROOT

NAMED = {f"GIT_{who}_{what}": "someone" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
STOPPED = "seqkd needs Python 3.11"  # what make says next, where no Python is named


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The project's files that make reads, without a Git history."""
    for name in ("Makefile", "params.yaml", "pyproject.toml", "setup.py", "constraints.txt", ".dvc/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def _git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, env=os.environ | NAMED, check=True)


def _make(folder: Path) -> str:
    """Return the first line that `make repro` prints, with no Python to install anything."""
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    command = ["make", "repro", "PYTHON=false"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode
    assert not (folder / ".venv").exists()
    return done.stderr.splitlines()[0]


def test_make_refuses_an_archive_of_the_project_without_a_git_history(archive: Path) -> None:
    said = (
        "Git finds no history here, which DVC needs; clone the project, or make one: "
        "git init && git add . && git commit -m start"
    )
    assert _make(archive) == said
    _git(archive, "init", "-q")
    assert _make(archive) == said
    _git(archive, "add", ".")
    _git(archive, "commit", "-qm", "start")
    assert _make(archive).startswith(STOPPED)


@pytest.mark.parametrize("corpus", ["own", "'own text'", '"own text"   # with a comment', "own/link"])
def test_make_refuses_a_corpus_with_a_link_to_nothing(archive: Path, corpus: str) -> None:
    settings = archive / "params.yaml"
    lines = settings.read_text("utf-8").splitlines()
    settings.write_text("\n".join(f"  corpus: {corpus}" if line.startswith("  corpus:") else line for line in lines))
    _git(archive, "init", "-q")
    _git(archive, "commit", "-q", "--allow-empty", "-m", "start")
    for name in ("own", "own text"):
        (archive / name).mkdir()
        (archive / name / "link").symlink_to("nowhere")
    folder = "own text" if "text" in corpus else "own"
    assert _make(archive) == f"{folder}/link: a link to what is not there; correct the link or remove it."
    (archive / folder / "link").unlink()
    assert _make(archive).startswith(STOPPED)


def test_make_refuses_a_folder_that_is_no_dvc_project(archive: Path) -> None:
    shutil.rmtree(archive / ".dvc")
    assert _make(archive) == "There is no .dvc/config here; run make in a whole clone of the project."
