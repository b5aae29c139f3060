import sys
from pathlib import Path

import pytest

from seqkd.config.machine import Command, Machine
from seqkd.config.schema import DecodeSettings
from seqkd.config.teachers import CommandTeacher, FilesTeacher
from seqkd.data import bitext, text_lists
from seqkd.data.bitext import Pair
from seqkd.teachers import translate
from seqkd.teachers.translate import Request
from seqkd.utils.errors import InputError

COUNTING = (
    "import sys\nlog = open('asked', 'a')\nfor line in sys.stdin:\n    log.write(line)\n    print(line.strip().upper())"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a text of three lines, two of them alike."""
    monkeypatch.chdir(tmp_path)
    text(["one", "two", "one"])
    return tmp_path


def text(sources: list[str]) -> None:
    bitext.write(Path("text.tsv"), [Pair(3 * number, source, "") for number, source in enumerate(sources)])


def command(*, version: str = "1", code: str = COUNTING) -> Request:
    machine = Machine(processes=1, commands={"own": Command(argv=[sys.executable, "-c", code], batch=1)})
    return Request("own", CommandTeacher(kind="command", version=version), DecodeSettings(), machine, Path("text.tsv"))


def translated(request: Request) -> list[str]:
    cache = translate.open_cache(request)
    assert sum(translate.translate_missing(cache, request)) >= 0
    translate.write(cache, request, Path("lists"))
    return list(text_lists.best(Path("lists"), request.text))


def test_lines_are_asked_once_and_kept_for_every_text() -> None:
    assert translated(command()) == ["ONE", "TWO", "ONE"]
    assert Path("asked").read_text().split() == ["one", "two"]
    text(["three", "one"])
    assert translated(command()) == ["THREE", "ONE"]
    assert Path("asked").read_text().split() == ["one", "two", "three"]


def test_lines_of_another_version_are_not_taken_for_this_ones() -> None:
    translated(command())
    translated(command(version="2"))
    assert Path("asked").read_text().split() == ["one", "two", "one", "two"]


def test_lines_that_came_before_a_failure_are_kept() -> None:
    with pytest.raises(InputError, match="exit code 1"):
        translated(command(code=f"{COUNTING}\n    if 'two' in line: sys.exit(1)"))
    assert translated(command()) == ["ONE", "TWO", "ONE"]
    assert Path("asked").read_text().split().count("one") == 1


def test_teacher_without_a_command_in_machine_yaml_is_told_what_to_add() -> None:
    request = command()._replace(machine=Machine(processes=1))
    with pytest.raises(InputError, match=r"^machine\.yaml: commands\.own is missing; add how to start teachers\.own"):
        translated(request)


def files(*, sources: str | None = None) -> Request:
    teacher = FilesTeacher(kind="files", lists="lists.de")
    machine, own = Machine(processes=1), Path("text.tsv")
    return Request("own", teacher, DecodeSettings(), machine, own, lists="lists.de", sources=sources)


def test_files_are_of_the_ids_of_the_text_or_of_the_lines_of_their_sources() -> None:
    Path("lists.de").write_text("3 ||| zwei\n0 ||| eins\n6 ||| eins\n")
    assert translated(files()) == ["eins", "zwei", "eins"]
    Path("sources.en").write_text("two\nmore\none\n")
    Path("lists.de").write_text("0 ||| ZWEI\n1 ||| MEHR\n2 ||| EINS\n")
    assert translated(files(sources="sources.en")) == ["EINS", "ZWEI", "EINS"]


def test_lines_of_the_text_that_no_source_has_are_named() -> None:
    Path("sources.en").write_text("one\n")
    Path("lists.de").write_text("eins\n")
    with pytest.raises(InputError, match=r"1 lines of text\.tsv have no translation \(ids 3 \('two'\)\)"):
        translated(files(sources="sources.en"))
