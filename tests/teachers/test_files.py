import gzip
import json
import random
from pathlib import Path

import pytest

from seqkd.data.text_lists import TextHypothesis
from seqkd.teachers import files
from seqkd.utils.errors import InputError

SOURCES = [(0, "one house"), (1, "two houses"), (2, "three houses"), (3, "four houses")]
TEXTS = ["ein Haus", "zwei Häuser", "drei Häuser", "vier Häuser"]
PLAIN = "".join(f"{text}\n" for text in TEXTS)
IDS = "".join(f"{line} ||| {text}\n" for line, text in enumerate(TEXTS))
SCORES = "".join(f"{line} ||| {text} ||| -{line}.5\n" for line, text in enumerate(TEXTS))
TABS = "".join(f"{source}\t{text}\n" for (_, source), text in zip(SOURCES, TEXTS, strict=True))
JSONL = "".join(
    json.dumps({"id": line, "source": source, "hypotheses": [{"text": text, "score": -1.2}]}) + "\n"
    for (line, source), text in zip(SOURCES, TEXTS, strict=True)
)


def read(path: Path, *others: Path) -> list[tuple[str, list[TextHypothesis]]]:
    return list(files.lists([path, *others], SOURCES))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("content", [PLAIN, TABS, IDS, SCORES, JSONL], ids=["plain", "tabs", "ids", "scores", "JSONL"])
def test_files_of_every_format_give_each_source_its_own_translation(content: str, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(content.encode()))
    for path in (write(tmp_path / "lists", content), packed):
        lists = read(path)
        assert [source for source, _ in lists] == [source for _, source in SOURCES]
        assert [hypotheses[0].text for _, hypotheses in lists] == TEXTS


@pytest.mark.parametrize("content", [IDS, SCORES, JSONL], ids=["ids", "scores", "JSONL"])
def test_files_with_ids_may_be_in_any_order_and_in_several_parts(content: str, tmp_path: Path) -> None:
    lines = content.splitlines(keepends=True)
    for seed in range(5):
        random.Random(seed).shuffle(lines)
        parts = [write(tmp_path / "1", "".join(lines[:2])), write(tmp_path / "2", "".join(lines[2:]))]
        assert read(*parts) == read(write(tmp_path / "whole", content))


def test_hypotheses_are_ranked_by_score_and_without_scores_as_they_stand(tmp_path: Path) -> None:
    rest = "".join(f"{line} ||| x ||| F0= 1.5 ||| -9\n" for line in (1, 2, 3))
    path = write(tmp_path / "moses", f"0 ||| worse ||| F0= -1 -2 ||| -2.5\n{rest}0 ||| better ||| F0= -1 -2 ||| -1.5\n")
    assert read(path)[0][1] == [TextHypothesis("better", -1.5), TextHypothesis("worse", -2.5)]
    rest = "".join(f"{line} ||| x\n" for line in (1, 2, 3))
    assert read(write(tmp_path / "ranks", f"0 ||| first\n0 ||| second\n{rest}"))[0][1] == [
        TextHypothesis("first", None),
        TextHypothesis("second", None),
    ]


def test_scores_above_zero_rank_but_are_no_log_probabilities(tmp_path: Path) -> None:
    rest = "".join(f"{line} ||| x ||| 1\n" for line in (1, 2, 3))
    lists = read(write(tmp_path / "quality", f"0 ||| worse ||| 0.2\n0 ||| better ||| 0.9\n{rest}"))
    assert lists[0][1] == [TextHypothesis("better", None), TextHypothesis("worse", None)]


def exchanged(content: str) -> str:
    """The content with the sources of two entries exchanged."""
    return content.replace("one house", "@").replace("two houses", "one house").replace("@", "two houses")


BAD: dict[str, tuple[str | bytes, str]] = {
    "a plain line too few": (PLAIN[: PLAIN.index("vier")], "1 of 4 sources have no translation (ids 3);"),
    "a plain line too many": (f"{PLAIN}fünf\n", "line 5: no source is left for this line;"),
    "a plain line twice": (PLAIN + TEXTS[3] + "\n", "line 5: no source is left"),
    "an id without a line": (IDS.replace("1 |||", "9 |||"), "line 2: 1 of 4 sources have no translation (ids 1) and 1"),
    "no id but one": ("2 ||| drei\n", "3 of 4 sources have no translation (ids 0, 1, 3);"),
    "a line twice": (IDS + "1 ||| zwei Häuser\n", "line 5: id 1 is given twice, first in line 2; remove one."),
    "a score twice": (SCORES + "1 ||| zwei Häuser ||| -1.5\n", "line 5: id 1 is given twice, first in line 2;"),
    "an id of JSONL twice": (JSONL + '{"id": 1, "hypotheses": [{"text": "x"}]}\n', "line 5: id 1 is given twice, fir"),
    "exchanged sources": (exchanged(JSONL), "line 1: id 0 has the translation of another source than its own;"),
    "exchanged lines": (exchanged(TABS), "line 1: id 0 has the translation of another source than its own;"),
    "ids from 1": ("".join(f"{n + 1} ||| {t}\n" for n, t in enumerate(TEXTS)), "begin at 1; number the lines from 0"),
    "an id that is no number": (IDS + "x ||| y\n", "line 5: the id is 'x'; write a number"),
    "CRLF": (IDS.replace("\n", "\r\n"), "line 1: a carriage return (CRLF); convert"),
    "one CRLF": (PLAIN.replace("r\n", "r\r\n"), "line 2: a carriage return (CRLF); convert"),
    "a BOM": (f"\ufeff{PLAIN}", "line 1: a byte order mark (BOM); save"),
    "an invalid byte": (PLAIN.encode().replace("ä".encode(), b"\xe4", 1), "line 2: not UTF-8; convert the file (iconv"),
    "a NUL": (PLAIN.replace("zwei", "zw\0ei"), "line 2: a NUL character, so this is no text; take it out."),
    "a separator in a plain text": (PLAIN.replace("zwei ", "zwei ||| "), "line 2: ||| inside a text, which divides"),
    "a separator in a text with an id": (IDS.replace("zwei ", "zwei ||| "), "line 2: 3 fields, not 2; write"),
    "a separator in a scored text": (SCORES.replace("zwei ", "zwei ||| "), "line 2: 4 fields, not 3; write"),
    "a separator in all texts": (IDS.replace(" H", " ||| H"), "line 1: the score is 'Haus'; write a finite number."),
    "NaN as a score": (SCORES.replace("-1.5", "nan"), "line 2: the score is 'nan'; write a finite number."),
    "NaN as a score of JSONL": (JSONL.replace("-1.2", "NaN"), "line 1: the score is 'nan'; write a finite number."),
    "an endless score": (SCORES.replace("-1.5", "-1e999"), "line 2: the score is '-1e999'; write a finite number."),
    "a word as a score": (SCORES.replace("-1.5", "bad"), "line 2: the score is 'bad'; write a finite number."),
    "an empty plain line": (PLAIN.replace("zwei Häuser", ""), "line 2: an empty translation; give it words"),
    "an empty hypothesis": (IDS.replace("zwei Häuser", ""), "line 2: an empty translation; give it words"),
    "a hypothesis that shows nothing": (IDS.replace("zwei Häuser", "\u00ad"), "line 2: an empty translation; give it"),
    "an empty hypothesis of JSONL": (JSONL.replace('"ein Haus"', '""'), "line 1: an empty translation; give it words"),
    "no hypothesis": (JSONL + '{"id": 9, "hypotheses": []}\n', "line 5: not a JSON object like"),
    "half a line of JSONL": (JSONL[:-9], "line 4: not a JSON object like"),
    "a truth value for an id": (JSONL.replace('"id": 1', '"id": true'), "line 2: not a JSON object like"),
    "an empty file": ("", "the file is empty; give it text or remove it."),
    "a cut gzip file": (gzip.compress(PLAIN.encode())[:-9], "broken gzip, cut short; compress the file anew."),
    "a page in place of the file": ("<!doctype html>\n<html>\n", "is a page of HTML; download the file itself."),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_files_that_cannot_be_joined_beyond_doubt_are_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    content, expected = BAD[name]
    path = write(tmp_path / "lists", content)
    with pytest.raises(InputError) as refusal:
        next(files.lists([path], SOURCES))  # before anything is yielded
    assert expected in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert str(refusal.value).endswith(".")


def test_plain_lines_in_chunks_of_another_order_are_refused(tmp_path: Path) -> None:
    draw = random.Random(1)
    lengths = [draw.randint(1, 30) for _ in range(2000)]
    sources = [(number, "word " * length) for number, length in enumerate(lengths)]
    lines = [f"{'Wort ' * length}{number}\n" for number, length in enumerate(lengths)]
    assert len(list(files.lists([write(tmp_path / "right", "".join(lines))], sources))) == 2000
    chunks = [*lines[:600], *lines[800:1000], *lines[600:800], *lines[1000:]]
    shifted = [*lines[:600], *lines[601:1000], lines[1000], lines[1000], *lines[1001:]]
    for order in (chunks, shifted):
        with pytest.raises(InputError, match=r"wrong, from line 601 on: the lengths of 200 lines have nothing to do"):
            list(files.lists([write(tmp_path / "wrong", "".join(order))], sources))


def test_files_that_hold_one_id_between_them_are_refused(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1", IDS), write(tmp_path / "2", "2 ||| drei\n")
    with pytest.raises(InputError, match=r"2, line 1: id 2 is in .*1 too; give each id in one file only\.$"):
        read(first, second)


def test_pattern_that_finds_no_file_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^params\.yaml: teachers\.vendor: no file is called .*\*\.gz; correct"):
        files.find(f"{tmp_path}/*.gz", key="teachers.vendor")


def test_files_are_joined_by_the_ids_of_the_sources_whatever_these_are(tmp_path: Path) -> None:
    sources = [(7, "a"), (100, "b")]
    path = write(tmp_path / "plain", "x\ny\n")
    assert [(source, each[0].text) for source, each in files.lists([path], sources)] == [("a", "x"), ("b", "y")]
