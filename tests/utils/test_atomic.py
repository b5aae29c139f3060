"""Files and folders are written whole or not at all, and a full disk is one sentence."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import source_tree
import torch
from source_tree import ROOT

from seqkd import cli
from seqkd.data import bitext, nbest, vocab
from seqkd.data.bitext import Pair
from seqkd.data.nbest import Hypothesis
from seqkd.models import checkpoint, lstm
from seqkd.models.checkpoint import Model
from seqkd.utils import atomic
from seqkd.utils.errors import describe_os_error


def test_atomic_write_of_a_file_renames_it_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic.atomic_write(path) as partial:
        partial.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_atomic_write_of_a_folder_replaces_another(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with atomic.atomic_write(tmp_path / "m") as partial:
            partial.mkdir()
            (partial / name).touch()
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_atomic_write_follows_a_link_to_a_folder_and_replaces_a_link_to_a_file(tmp_path: Path) -> None:
    """With DVC's links, a file of the checkout leads into DVC's cache."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    for name in ("folder", "file"):
        (tmp_path / f"link-{name}").symlink_to(name)
    with atomic.atomic_write(tmp_path / "link-folder") as partial:
        partial.mkdir()
        (partial / "new").touch()
    with atomic.open_text(tmp_path / "link-file") as file:
        file.write("new")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]
    assert (tmp_path / "link-folder").is_symlink()
    assert ((tmp_path / "file").read_text(), (tmp_path / "link-file").read_text()) == ("old", "new")
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("folder", [False, True])
def test_atomic_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, *, folder: bool) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def interrupted() -> None:
        with atomic.atomic_write(path) as partial:
            if folder:
                partial.mkdir()
            (partial / "x" if folder else partial).write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


SWAP = """
import os, signal, sys
from pathlib import Path
from seqkd.utils import atomic

def rename(source, target):
    if str(source).endswith(".partial"):
        {act}
    real(source, target)

real, os.rename = os.rename, rename
with atomic.atomic_write(Path(sys.argv[1])) as partial:
    partial.mkdir()
    (partial / "new").touch()
"""


def _swap(path: Path, act: str) -> subprocess.CompletedProcess[str]:
    """Replace the folder path by one with the file new in another process, which acts before the second rename."""
    command = [sys.executable, "-c", SWAP.format(act=act), str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with the file old."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m/old").touch()
    return tmp_path / "m"


def test_atomic_write_of_a_folder_has_both_whole_at_every_moment(old: Path) -> None:
    done = _swap(old, "os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL
    assert _files(old.parent) == [".m.old/old", ".m.partial/new"]


def test_atomic_write_finishes_a_swap_that_was_killed_between_its_renames(old: Path) -> None:
    _swap(old, "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(ValueError, match="no"), atomic.atomic_write(old):
        raise ValueError("no")
    assert _files(old.parent) == ["m/new"]
    _swap(old, "os.kill(os.getpid(), signal.SIGKILL)")
    with atomic.atomic_write(old) as partial:
        assert _files(old.parent) == ["m/new"]
        partial.mkdir()
        (partial / "newest").touch()
    assert _files(old.parent) == ["m/newest"]


def test_atomic_write_of_a_folder_that_cannot_be_renamed_leaves_the_old_one(old: Path) -> None:
    done = _swap(old, "raise OSError(28, 'No space left on device', str(source))")
    assert "OSError: [Errno 28] No space left on device" in done.stderr
    assert done.stderr.rstrip().endswith(f"'{old}'")
    assert _files(old.parent) == ["m/old"]
    assert [path.name for path in old.parent.iterdir()] == ["m"]


def test_atomic_write_does_not_bring_back_an_old_folder_after_a_finished_swap(tmp_path: Path) -> None:
    """A kill after the second rename leaves the old folder, of which a part may be deleted."""
    (tmp_path / ".m.old").mkdir()
    (tmp_path / ".m.old/half").touch()
    with pytest.raises(ValueError, match="no"), atomic.atomic_write(tmp_path / "m"):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_ignores_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / ".m.partial").mkdir()
    (tmp_path / ".m.partial" / "half").touch()
    with atomic.atomic_write(tmp_path / "m") as partial:
        partial.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/.."])
def test_atomic_write_refuses_a_path_without_a_name_of_its_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    with pytest.raises(OSError, match="Cannot be replaced") as error, atomic.atomic_write(Path(name)):
        pass
    assert describe_os_error(error.value) == f"{Path(name)}: cannot be replaced; choose another place."
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


def test_describe_os_error_explains_links_that_lead_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links") as error:
        (tmp_path / "loop").read_bytes()
    assert str(describe_os_error(error.value)).endswith("; correct the links there, which lead in a circle.")


def test_open_text_adds_its_path_to_an_error_without_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as error, atomic.open_text(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert describe_os_error(error.value) == (
        f"{tmp_path / 'a'}: no space left on device; make room on that disk and run the same command again."
    )


def test_describe_os_error_is_none_where_a_user_has_no_remedy() -> None:
    assert describe_os_error(OSError(errno.EBADF, os.strerror(errno.EBADF), "a")) is None
    assert describe_os_error(OSError("no number")) is None
    assert describe_os_error(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))) is None


# On a disk that is really full.

SETTINGS = source_tree.settings("interface-de")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"no disk may be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _fill(disk: Path) -> Path:
    """Leave no space but a page or two."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 12))
    os.truncate(filler, filler.stat().st_size - (1 << 13))
    return filler


def seqkd(command: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["seqkd", *command])
    try:
        return cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)


def _project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make folder a project with a synthetic corpus."""
    folder.mkdir()
    (folder / "own.yaml").write_text("kind: grammar\npairs: 3000\ndev: 30\ntest: 30\n")
    (folder / "none.yaml").write_text("kind: none\n")
    settings = SETTINGS.replace("corpora/interface.yaml", "own.yaml").replace("{size: 4000}", "{size: 700}")
    settings = settings.replace("corpora/none.yaml", "none.yaml")
    (folder / "params.yaml").write_text(settings)
    (folder / "machine.yaml").write_text("processes: 1\ndevice: cpu\n")
    monkeypatch.chdir(folder)


def test_stages_on_a_full_disk_end_in_one_sentence_and_succeed_when_there_is_space(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _project(tmp_path / "project", monkeypatch)
    reference, folder, joint = small / "reference.tsv", small / "corpus", small / "joint.model"
    filler = _fill(small)
    stages = {
        reference: ["preprocess", "--reference", str(reference), "--out", str(folder), "--downloads", "downloads"],
        joint: ["vocab", "--text", str(reference), "--out", str(joint)],
    }
    for path, command in stages.items():
        if path == joint:
            _fill(small)
        capsys.readouterr()
        assert seqkd(command, monkeypatch) == 1
        sentence = f"{path}: no space left on device; make room on that disk and run the same command again."
        assert capsys.readouterr().err == f"seqkd {command[0]}: {sentence}\n"
        assert {each for each in small.iterdir() if "partial" in each.name or each == path} == set()
        filler.unlink()
        assert not seqkd(command, monkeypatch)
        assert path.exists()
    assert len(bitext.read(reference)) == 3000
    assert vocab.load(joint).size == 700


def test_model_and_nbest_list_on_a_full_disk_stay_as_they_were(small: Path) -> None:
    pieces = vocab.train(["the cat sat", "der Kater"] * 5, small / "joint.model", size=24)
    made = Model(lstm.LSTMNetwork(lstm.NetworkShape(pieces.size, 1, 16, 0.0)), pieces, None)
    larger = Model(lstm.LSTMNetwork(lstm.NetworkShape(pieces.size, 1, 32, 0.0)), pieces, None)
    checkpoint.save(small / "m", made, card="old")
    nbest.write_part(small / "lists", 0, [(Pair(0, "a", "b"), [Hypothesis((4,), -1.0, True)])])
    before = {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}
    filler = _fill(small)
    with pytest.raises(OSError, match="No space left") as error:
        checkpoint.save(small / "m", larger, card="new")
    assert str(describe_os_error(error.value)).startswith(str(small / "m"))
    drawn = torch.randint(4, 24, (40_000,), generator=torch.Generator().manual_seed(1)).tolist()
    with pytest.raises(OSError, match="No space left") as error:
        nbest.write_part(small / "lists", 0, [(Pair(0, "a", "b"), [Hypothesis(tuple(drawn), -1.0, True)])])
    assert str(describe_os_error(error.value)).startswith(
        f"{small / 'lists' / 'part-00000.tsv.gz'}: no space left on device;"
    )
    after = {path: path.read_bytes() for path in small.rglob("*") if path.is_file() and path != filler}
    assert after == before
    filler.unlink()
    checkpoint.save(small / "m", larger, card="new")
    assert checkpoint.load(small / "m").network.shape.hidden == 32


def test_file_size_limit_is_explained_as_a_full_disk_is(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from seqkd.data import bitext\n"
        "from seqkd.utils.errors import describe_os_error\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "try: bitext.write(Path(sys.argv[1]), [bitext.Pair(0, 'a' * (1 << 20), 'b')])\n"
        "except OSError as error: print(describe_os_error(error))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.tsv")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"{tmp_path / 'a.tsv'}: file too large; raise the limit on a file's size (ulimit -f) and run the same command "
        "again.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no /dev/full")
def test_command_line_explains_standard_output_on_a_full_disk() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "seqkd", "--help"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "seqkd: standard output: no space left on device; make room on that disk and run the same command again.\n"
    )
