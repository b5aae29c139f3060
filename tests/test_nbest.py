import gzip
import random
from pathlib import Path

import pytest

from seqkd import nbest
from seqkd.errors import InputError
from seqkd.nbest import Hypothesis

LISTS = [
    (3, [Hypothesis((5, 6), -0.25, True), Hypothesis((), -1.5, True)]),
    (4, [Hypothesis((7,), -3.125, False)]),
    (9, [Hypothesis((8, 9, 10), -0.000001, True), Hypothesis((8,), -20.0, True)]),
]


def _edit(path: Path, change: object) -> None:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
    assert callable(change)
    path.write_bytes(gzip.compress("".join(change(lines)).encode()))


def _long(folder: Path, lines: int) -> list[int]:
    ids = list(range(0, 2 * lines, 2))
    for index in range(nbest.count(lines)):
        entries = [(line, [Hypothesis((4,), -1.0, True)]) for line in ids[nbest.positions(index)]]
        nbest.write_part(folder, index, entries)
    return ids


def test_what_is_written_is_read(tmp_path: Path) -> None:
    nbest.write_part(tmp_path, 0, LISTS)
    assert list(nbest.read(tmp_path)) == LISTS
    assert list(nbest.read(tmp_path, [3, 4, 9])) == LISTS


def test_a_line_of_a_part_is_id_rank_logprob_finished_pieces(tmp_path: Path) -> None:
    path = nbest.write_part(tmp_path, 0, LISTS[:1])
    assert path.name == "part-00000.tsv.gz"
    assert gzip.decompress(path.read_bytes()) == b"3\t0\t-0.250000\t1\t5 6\n3\t1\t-1.500000\t1\t\n"


def test_the_same_lists_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (nbest.write_part(tmp_path / name, 0, LISTS).read_bytes() for name in ("one", "other"))
    assert one == other
    assert not list(tmp_path.glob("*/.*"))


def test_parts_are_ranges_of_positions(tmp_path: Path) -> None:
    ids = _long(tmp_path, 2003)
    assert [path.name[5:10] for path in nbest.parts(tmp_path, lines=2003)] == ["00000", "00001", "00002"]
    assert [line for line, _ in nbest.read(tmp_path, ids)] == ids
    assert ids[nbest.positions(2)] == [4000, 4002, 4004]


def test_an_entry_without_hypotheses_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="id 5 has no hypothesis"):
        nbest.write_part(tmp_path, 0, [(5, [])])
    assert not nbest.part_path(tmp_path, 0).exists()


@pytest.mark.parametrize("seed", range(20))
def test_shuffled_lines_are_detected(tmp_path: Path, seed: int) -> None:
    path = nbest.write_part(tmp_path, 0, LISTS)
    before = gzip.decompress(path.read_bytes())
    _edit(path, lambda lines: random.Random(seed).sample(lines, len(lines)))
    if gzip.decompress(path.read_bytes()) != before:
        with pytest.raises(InputError, match=r"shuffled|out of order"):
            list(nbest.read(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[1:], "id 3 has rank 1 in place 0"),
        (lambda lines: [lines[0], *lines], "id 3 has rank 0 in place 1"),
        (lambda lines: lines[2:], "id 4 stands where the text has id 3"),
        (lambda lines: lines[:2] + lines[3:], "id 9 stands where the text has id 4"),
        (lambda lines: lines[:3], "id 9 is missing"),
        (lambda lines: [*lines, "11\t0\t-1.0\t1\t4\n"], "id 11 stands where the text has its end"),
        (lambda lines: [*lines, lines[2]], "id 4 comes after id 9"),
        (lambda lines: [*lines, "11\t0\t-1.0\t1\n"], "line 6: not 'id, rank"),
        (lambda lines: [*lines, "11\t0\tlow\t1\t4\n"], "line 6: not 'id, rank"),
        (lambda lines: [lines[0], "x"], "line 2: not 'id, rank"),
    ],
)
def test_gaps_repeats_and_broken_lines_are_refused_by_name(tmp_path: Path, change: object, message: str) -> None:
    path = nbest.write_part(tmp_path, 0, LISTS)
    _edit(path, change)
    with pytest.raises(InputError, match=message) as caught:
        list(nbest.read(tmp_path, [3, 4, 9]))
    assert str(path) in str(caught.value)


def test_a_missing_part_is_refused(tmp_path: Path) -> None:
    ids = _long(tmp_path, 3000)
    nbest.part_path(tmp_path, 1).unlink()
    with pytest.raises(InputError, match=r"part-00001\.tsv\.gz: this part of the n-best list is missing"):
        list(nbest.read(tmp_path))
    nbest.part_path(tmp_path, 2).unlink()
    with pytest.raises(InputError, match=r"part-00001\.tsv\.gz: this part of the n-best list is missing"):
        list(nbest.read(tmp_path, ids))
    with pytest.raises(InputError, match=r"part-00000\.tsv\.gz: this part of the n-best list is missing"):
        list(nbest.read(tmp_path / "nowhere"))


def test_exchanged_short_and_surplus_parts_are_refused(tmp_path: Path) -> None:
    ids = _long(tmp_path, 2000)
    with pytest.raises(InputError, match="2 parts for a text of 1"):
        list(nbest.read(tmp_path, ids[:1000]))
    first, second = nbest.parts(tmp_path)
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    with pytest.raises(InputError, match="parts are mixed up"):
        list(nbest.read(tmp_path))
    _long(tmp_path, 2000)
    _edit(first, lambda lines: lines[:-1])
    with pytest.raises(InputError, match="999 of 1000 lines"):
        list(nbest.read(tmp_path))


def test_a_part_cut_short_or_not_gzip_is_refused(tmp_path: Path) -> None:
    path = nbest.write_part(tmp_path, 0, LISTS)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="not a whole gzip file"):
        list(nbest.read(tmp_path))
    path.write_bytes(b"3\t0\t-1.0\t1\t4\n")
    with pytest.raises(InputError, match="not a whole gzip file"):
        list(nbest.read(tmp_path))
