import subprocess
import sys
from pathlib import Path

import pytest

from seqkd.utils import cache_dir
from seqkd.utils.errors import InputError


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


def config(text: str, *, name: str = "config") -> None:
    Path(".dvc").mkdir(exist_ok=True)
    Path(".dvc", name).write_text(text)


def test_path_is_beside_the_default_cache(project: Path) -> None:
    config("[core]\n    analytics = false\n")
    assert cache_dir.path("abc") == project / ".dvc/tmp/resume/abc"
    assert cache_dir.path("abc", name="nbest") == project / ".dvc/tmp/nbest/abc"
    assert not cache_dir.path("abc").exists()


def test_path_in_a_clone_follows_the_cache_of_its_local_config(project: Path) -> None:
    config("[core]\n    analytics = false\n['remote \"far\"']\n    url = s3://x/%(y)s\n")
    config("[cache]\ndir = /elsewhere/.dvc/cache\n", name="config.local")
    assert cache_dir.path("abc") == Path("/elsewhere/.dvc/tmp/resume/abc")


def test_path_of_a_relative_cache_is_relative_to_the_folder_of_the_configuration(project: Path) -> None:
    config("[cache]\n    type = copy\n    dir = ../../shared\n")
    assert cache_dir.path("abc") == project.parent / "shared/resume/abc"


def test_path_of_a_quoted_cache_has_no_quotes(project: Path) -> None:
    config('[cache]\n    dir = "/big, slow/cache"\n')
    assert cache_dir.path("abc") == Path("/big, slow/cache/resume/abc")


def test_path_without_a_dvc_project_is_in_the_working_directory(project: Path) -> None:
    assert cache_dir.path("abc") == project / ".resume/abc"


@pytest.mark.parametrize("text", [b"dir = x\n", b"[cache]\ndir = \xe9\n", b"[cache]\ndir = ~nobody-here/x\n"])
def test_path_refuses_a_broken_configuration_by_name_and_collect_garbage_ignores_it(text: bytes) -> None:
    config("")
    Path(".dvc/config").write_bytes(text)
    with pytest.raises(InputError, match=r"\.dvc/config: not a DVC configuration"):
        cache_dir.path("abc")
    cache_dir.collect_garbage(0.0)


def test_key_is_the_same_for_the_same_work_wherever_its_files_are() -> None:
    for name in ("one", "two"):
        Path(name, "deep").mkdir(parents=True)
        Path(name, "deep/b").write_text("bee")
        Path(name, "a").write_text("ay")
    assert cache_dir.key("alpha", b"\0", Path("one")) == cache_dir.key("alpha", b"\0", Path("two"))
    assert cache_dir.key(Path("one/a")) == cache_dir.key(Path("two/a"))
    assert len(cache_dir.key()) == 64


def test_key_differs_with_every_setting_name_and_content() -> None:
    Path("f/sub").mkdir(parents=True)
    Path("f/x").write_text("1")
    before = cache_dir.key(Path("f"))
    Path("f/x").write_text("2")
    edited = cache_dir.key(Path("f"))
    Path("f/x").rename("f/y")
    renamed = cache_dir.key(Path("f"))
    Path("f/y").rename("f/sub/y")
    moved = cache_dir.key(Path("f"))
    assert len({before, edited, renamed, moved}) == 4
    texts = [("ab", "c"), ("a", "bc"), ("abc",), ("c", "ab"), (b"abc",), ()]
    assert len({cache_dir.key(*parts) for parts in texts}) == 6


def test_key_of_a_missing_file_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        cache_dir.key(Path("absent"))


@pytest.mark.dvc
def test_path_in_a_temporary_experiment_is_that_of_the_project_it_was_started_in(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC makes the clones of `--temp` and `--queue` experiments with the same code."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.org")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    Path("where.py").write_text("from seqkd.utils import cache_dir\nprint(cache_dir.path('abc'))\n")
    Path("params.yaml").write_text("x: 1\n")
    Path("dvc.yaml").write_text(
        f"stages:\n  where:\n    cmd: {sys.executable} where.py > path.txt\n    params: [x]\n"
        "    outs: [path.txt: {cache: false}]\n"
    )
    dvc = str(Path(sys.executable).with_name("dvc"))
    for command in (["git", "init", "-q"], [dvc, "init", "-q"], ["git", "add", "."], ["git", "commit", "-qm", "start"]):
        subprocess.run(command, check=True)
    subprocess.run([dvc, "exp", "run", "-q", "--temp", "--name", "other", "-S", "x=2"], check=True)
    references = subprocess.check_output(["git", "for-each-ref", "--format=%(refname)", "refs/exps"], text=True).split()
    name = next(reference for reference in references if reference.endswith("/other"))
    shown = subprocess.run(["git", "show", f"{name}:path.txt"], capture_output=True, text=True, check=True)
    assert Path(shown.stdout.strip()) == cache_dir.path("abc") == project / ".dvc/tmp/resume/abc"
