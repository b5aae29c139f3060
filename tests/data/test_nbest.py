import gzip
import random
from pathlib import Path

import pytest

from seqkd.data import nbest
from seqkd.data.bitext import Pair
from seqkd.data.nbest import Entry, Hypothesis
from seqkd.utils.errors import InputError

PAIRS = [Pair(3, "a house", ""), Pair(4, "two", ""), Pair(9, "the end", "")]
LISTS = [
    [Hypothesis((5, 6), -0.25, True), Hypothesis((), -1.5, True)],
    [Hypothesis((7,), -3.125, False)],
    [Hypothesis((8, 9, 10), -0.000001, True), Hypothesis((8,), -20.0, True)],
]


def _write(folder: Path) -> Path:
    return nbest.write_part(folder, 0, zip(PAIRS, LISTS, strict=True))


def _read(folder: Path, pairs: list[Pair] = PAIRS) -> list[Entry]:
    """As selection reads a list."""
    parts = enumerate(nbest.parts(folder, lines=len(pairs)))
    return [entry for index, path in parts for entry in nbest.read_part(path, pairs[nbest.positions(index)])]


def _edit(path: Path, change: object) -> None:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
    assert callable(change)
    path.write_bytes(gzip.compress("".join(change(lines)).encode()))


def _long(folder: Path, lines: int) -> list[Pair]:
    pairs = [Pair(line, f"line {line}", "") for line in range(0, 2 * lines, 2)]
    for index in range(nbest.count(lines)):
        entries = [(pair, [Hypothesis((4,), -1.0, True)]) for pair in pairs[nbest.positions(index)]]
        nbest.write_part(folder, index, entries)
    return pairs


def test_read_part_returns_what_write_part_wrote(tmp_path: Path) -> None:
    _write(tmp_path)
    assert _read(tmp_path) == [(pair.id, hypotheses) for pair, hypotheses in zip(PAIRS, LISTS, strict=True)]


def test_write_part_writes_id_source_rank_count_logprob_finished_pieces(tmp_path: Path) -> None:
    path = nbest.write_part(tmp_path, 0, [(PAIRS[0], LISTS[0])])
    assert path.name == "part-00000.tsv.gz"
    mark = nbest.fingerprint("a house")
    expected = f"3\t{mark}\t0\t2\t-0.250000\t1\t5 6\n3\t{mark}\t1\t2\t-1.500000\t1\t\n"
    assert gzip.decompress(path.read_bytes()).decode() == expected
    assert len(mark) == 16


def test_write_part_gives_the_same_bytes_for_the_same_lists(tmp_path: Path) -> None:
    one, other = (_write(tmp_path / name).read_bytes() for name in ("one", "other"))
    assert one == other
    assert not list(tmp_path.glob("*/.*"))


def test_parts_are_ranges_of_positions(tmp_path: Path) -> None:
    pairs = _long(tmp_path, 2003)
    assert [path.name[5:10] for path in nbest.parts(tmp_path, lines=2003)] == ["00000", "00001", "00002"]
    assert [line for line, _ in _read(tmp_path, pairs)] == [pair.id for pair in pairs]
    assert [pair.id for pair in pairs[nbest.positions(2)]] == [4000, 4002, 4004]


def test_write_part_refuses_an_entry_without_hypotheses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="id 4 has no hypothesis"):
        nbest.write_part(tmp_path, 0, [(PAIRS[1], [])])
    assert not nbest.part_path(tmp_path, 0).exists()


@pytest.mark.parametrize("seed", range(20))
def test_read_part_refuses_shuffled_lines(tmp_path: Path, seed: int) -> None:
    path = _write(tmp_path)
    before = gzip.decompress(path.read_bytes())
    _edit(path, lambda lines: random.Random(seed).sample(lines, len(lines)))
    if gzip.decompress(path.read_bytes()) != before:
        with pytest.raises(InputError, match=r": id \d (has rank|comes after|stands where|has 1 of 2)"):
            _read(tmp_path)


def _swapped(lines: list[str]) -> list[str]:
    """The lists of ids 3 and 9 under each other's id, ranks and counts in order."""
    first, second = ([line.split("\t") for line in part] for part in (lines[:2], lines[3:]))
    exchanged = [["3", *line[1:]] for line in second], [["9", *line[1:]] for line in first]
    return ["\t".join(line) for line in exchanged[0]] + lines[2:3] + ["\t".join(line) for line in exchanged[1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[1:], "id 3 has rank 1 in place 0"),
        (lambda lines: [lines[0], *lines], "id 3 has rank 0 in place 1"),
        (lambda lines: lines[2:], "id 4 stands where the text has id 3"),
        (lambda lines: lines[:2] + lines[3:], "id 9 stands where the text has id 4"),
        (lambda lines: lines[:3], "id 9 is missing"),
        (lambda lines: lines[:4], "id 9 has 1 of 2 hypotheses"),
        (lambda lines: [*lines, lines[2]], "id 4 comes after id 9"),
        (lambda lines: [*lines, lines[2].replace("4\t", "11\t", 1)], "id 11 stands where the text has its end"),
        (_swapped, "id 3 has the list of another source"),
        (lambda lines: [*lines, "11\tabc\t0\t-1.0\t1\n"], "line 6: not 'id, source, rank"),
        (lambda lines: [*lines, "11\tabc\t0\t1\tlow\t1\t4\n"], "line 6: not 'id, source, rank"),
        (lambda lines: [lines[0], "x"], "line 2: not 'id, source, rank"),
        (lambda lines: ["3\t0\t-0.250000\t1\t5 6\n"], "line 1: not 'id, source, rank"),
    ],
)
def test_read_part_refuses_gaps_repeats_and_broken_lines_by_name(tmp_path: Path, change: object, message: str) -> None:
    path = _write(tmp_path)
    _edit(path, change)
    with pytest.raises(InputError, match=message) as caught:
        _read(tmp_path)
    assert str(path) in str(caught.value)


def test_read_part_refuses_the_list_of_another_corpus_with_the_same_ids(tmp_path: Path) -> None:
    _write(tmp_path)
    other = [*PAIRS[:2], PAIRS[2]._replace(source="The end")]
    with pytest.raises(InputError, match="id 9 has the list of another source than the text's; decode this text anew"):
        _read(tmp_path, other)


def test_parts_refuses_a_missing_part(tmp_path: Path) -> None:
    pairs = _long(tmp_path, 3000)
    for index in (1, 2):
        nbest.part_path(tmp_path, index).unlink()
        with pytest.raises(InputError, match=r"part-00001\.tsv\.gz: this part of the n-best list is missing"):
            _read(tmp_path, pairs)
    with pytest.raises(InputError, match=r"part-00000\.tsv\.gz: this part of the n-best list is missing"):
        _read(tmp_path / "nowhere", pairs)


def test_parts_that_are_exchanged_short_or_surplus_are_refused(tmp_path: Path) -> None:
    pairs = _long(tmp_path, 2000)
    with pytest.raises(InputError, match="2 parts for a text of 1"):
        _read(tmp_path, pairs[:1000])
    first, second = nbest.parts(tmp_path, lines=2000)
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    with pytest.raises(InputError, match="id 2000 stands where the text has id 0"):
        _read(tmp_path, pairs)
    _long(tmp_path, 2000)
    _edit(first, lambda lines: lines[:-1])
    with pytest.raises(InputError, match="id 1998 is missing"):
        _read(tmp_path, pairs)


def test_read_part_refuses_a_file_cut_short_or_not_gzip(tmp_path: Path) -> None:
    path = _write(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="not a whole gzip file"):
        _read(tmp_path)
    path.write_bytes(b"3\t0\t-1.0\t1\t4\n")
    with pytest.raises(InputError, match="not a whole gzip file"):
        _read(tmp_path)
