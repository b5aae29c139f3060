"""29,047 lines of news with another system's translations, as files: the stage refuses what cannot be joined."""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from source_tree import ROOT

from seqkd import cli
from seqkd.config import yaml_file
from seqkd.data import bitext, nbest
from seqkd.data.bitext import Pair
from seqkd.data.normalization import normalize

NEWS = ROOT.parent / "shared/data/external-en-de"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not NEWS.exists(), reason="needs ../shared/data/external-en-de")]
TEACH = ["seqkd", "teach", "base", "--text", "text.tsv", "--test", "test.tsv", "--out", "external"]


@pytest.fixture(scope="module")
def lines() -> tuple[list[str], list[str]]:
    """The sources and their translations."""
    names = ("sources.en.gz", "sources.base-memory.de.gz")
    english, german = (gzip.decompress((NEWS / name).read_bytes()).decode().splitlines() for name in names)
    return english, german


@pytest.fixture
def project(lines: tuple[list[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    values = yaml_file.read(ROOT / "params.yaml")
    assert isinstance(values, dict)
    rows = {"teachers": {"base": {"kind": "files", "lists": "lists"}}, "decode": {"base": {"teacher": "base"}}}
    select = {"first": {"nbest": "base", "metric": "score"}}
    distill = {"whole": {"train_text": "first", "alpha": 0.0}}
    prune = {"model": "whole", "ratios": [], "retrain": "first", "finetune": "first"}
    rest = {"select": select, "mix": {}, "distill": distill, "finetune": {}, "prune": prune}
    speed = {"models": ["whole"], "sentences": 1, "rounds": 1}
    (tmp_path / "params.yaml").write_text(json.dumps(values | rows | rest | {"speed": speed}))
    (tmp_path / "machine.yaml").write_text("processes: 1\n")
    bitext.write(tmp_path / "text.tsv", (Pair(number, line, "") for number, line in enumerate(lines[0])))
    bitext.write(tmp_path / "test.tsv", [Pair(0, "one", "eins")])
    (tmp_path / "external").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", TEACH)
    return tmp_path


def with_ids(german: list[str]) -> list[str]:
    return [f"{number} ||| {line} ||| -1.5" for number, line in enumerate(german)]


def exchanged(lines: list[str], *, at: int = 20_000) -> list[str]:
    return [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]


CASES: dict[str, tuple[Callable[[list[str], list[str]], list[str]], str]] = {
    "exchanged": (
        lambda english, german: [f"{s}\t{t}" for s, t in zip(exchanged(english), exchanged(german), strict=True)],
        "line 20001: id 20000 has the translation of another source",
    ),
    "missing": (
        lambda _, german: [*with_ids(german)[:9], *with_ids(german)[10:]],
        "1 of 29,047 sources have no transl",
    ),
    "double": (lambda _, german: [*with_ids(german), with_ids(german)[7]], "line 29048: id 7 is given twice, first in"),
    "too few": (lambda _, german: german[:-3], "3 of 29,047 sources have no translation (ids 29044, 29045, 29046)"),
    "too many": (lambda _, german: [*german, "x"], "line 29048: no source is left for this line;"),
    "from 1": (lambda _, german: [f"{n} ||| {line}" for n, line in enumerate(german, 1)], "its ids begin at 1;"),
    "CRLF": (lambda _, german: [f"{line}\r" for line in german], "line 1: a carriage return (CRLF);"),
    "BOM": (lambda _, german: [f"\ufeff{german[0]}", *german[1:]], "line 1: a byte order mark (BOM);"),
    "byte": (lambda _, german: [*german[:99], "\udce4", *german[100:]], "line 100: not UTF-8;"),
    "separator": (lambda _, german: [*german[:99], "a ||| b", *german[100:]], "line 100: ||| inside a text"),
    "NaN": (lambda _, german: [*with_ids(german)[:-1], "29046 ||| x ||| NaN"], "line 29047: the score is 'NaN'"),
    "empty": (lambda _, german: [*german[:-1], ""], "line 29047: an empty translation;"),
}


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


@pytest.mark.parametrize("name", CASES)
def test_files_of_news_with_one_fault_end_in_one_sentence_and_write_nothing(
    name: str, lines: tuple[list[str], list[str]], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, expected = CASES[name]
    (project / "lists").write_bytes("".join(f"{line}\n" for line in change(*lines)).encode(errors="surrogateescape"))
    before = files(project)
    assert cli.main() == 1
    told = capsys.readouterr().err
    assert expected in told
    assert (told.count("\n"), told.startswith("seqkd teach: lists")) == (1, True)
    assert files(project) == before


def test_files_of_news_give_each_line_its_own_translation(lines: tuple[list[str], list[str]], project: Path) -> None:
    (project / "lists").write_text("".join(f"{line}\n" for line in reversed(with_ids(lines[1]))), encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    paths = nbest.parts(project / "external/base/base", lines=29_047)
    found = [
        "".join(map(chr, hypotheses[0].ids))
        for path, pairs in zip(paths, nbest.chunks(bitext.stream(project / "text.tsv")), strict=True)
        for _, hypotheses in nbest.read_part(path, pairs)
    ]
    assert found == [normalize(line) for line in lines[1]]
