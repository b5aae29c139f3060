"""seqkd compare, run as a command in a folder of models and files of text."""

import re
from pathlib import Path

import pytest
from networks import save_untrained_model

from seqkd.evaluation import metrics
from seqkd.utils.errors import InputError, describe_os_error
from stages import compare

REFERENCES = ["ein Hund lief", "die Katze saß auf der Matte", "der Baum ist alt"]
SOURCES = ["a dog ran", "the cat sat on the mat", "the tree is old"]
OTHER = ["ein Hund lief", "die Katze saß", "kein Baum"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    save_untrained_model(tmp_path / "made", [*SOURCES, *REFERENCES])
    pairs = zip(SOURCES, REFERENCES, strict=True)
    Path("data.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    Path("other.txt").write_text("".join(f"{text}\n" for text in OTHER))
    Path("human.txt").write_text("".join(f"{text}\n" for text in REFERENCES))
    return tmp_path


def _compare(first: str, second: str, *, data: str = "data.tsv", lines: int = 5) -> None:
    compare.main(Path(first), Path(second), data=Path(data), beam=2, lines=lines)


def test_compare_prints_scores_intervals_and_the_lines_that_differ_most(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _compare("human.txt", "other.txt", lines=1)
    printed = capsys.readouterr().out
    assert re.search(r"human\.txt +100\.0 ±", printed)
    score = metrics.bleu(OTHER, REFERENCES, tokenizer="13a").value
    assert f"{score:.1f} ±" in printed
    assert f"{100 - score:+.1f} ±" in printed
    assert printed.count("\nline ") == 1
    assert "\nline 3: the tree is old\n  human: der Baum ist alt\n  human.txt (chrF 100): der Baum ist alt\n" in printed


def test_compare_reads_every_text_in_its_normal_form(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("spelled.tsv").write_text("go\tO\u0308ffne\u00a0 die Tu\u0308r und geh\ufffd\n")
    Path("answer.txt").write_text("\ufeffÖffne die\tTür und geh\r\n")
    _compare("answer.txt", "answer.txt", data="spelled.tsv")
    assert re.search(r"answer\.txt +100\.0 ±", capsys.readouterr().out)


def test_compare_translates_with_a_model_and_measures_its_speed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _compare("made/m", "made/m")
    printed = capsys.readouterr().out
    assert printed.count("p = 1.000") == 2
    speed = printed.splitlines()[2].split()[1]
    assert float(speed.replace(",", "")) > 0
    assert "\nline " not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("made/m", "nothing"), "nothing: no such file or directory"),
        (("made/m", "."), "is not a model's folder"),
        (("short.txt", "other.txt"), "short.txt: 1 lines, but data.tsv has 3; give one translation a line"),
        (
            ("human.txt", "other.txt", "other.txt"),
            "other.txt, line 1: 1 columns; write 'source, tab, human translation'",
        ),
        (("human.txt", "other.txt", "empty"), "empty: the file is empty"),
        (("human.txt", "bytes"), "bytes, line 1: not UTF-8"),
    ],
)
def test_compare_refuses_in_one_sentence(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    Path("short.txt").write_text("one\n")
    Path("empty").touch()
    Path("bytes").write_bytes(b"\xff\n" * 3)
    first, second, *data = arguments
    with pytest.raises((InputError, OSError)) as refused:
        _compare(first, second, data=[*data, "data.tsv"][0])
    error = refused.value
    assert message in str(describe_os_error(error) if isinstance(error, OSError) else error)
