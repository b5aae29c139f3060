"""Mixed texts: so many copies of each, in the order of the ids."""

from pathlib import Path

import pytest

from seqkd.data import bitext
from seqkd.data.bitext import Pair
from seqkd.utils.errors import InputError

HUMAN = [Pair(0, "a", "A"), Pair(2, "b", "B"), Pair(5, "c", "C")]
OTHER = [Pair(2, "b", "x"), Pair(2, "b", "y"), Pair(5, "c", "z")]


@pytest.fixture
def texts(tmp_path: Path) -> tuple[Path, Path]:
    bitext.write(tmp_path / "human.tsv", HUMAN)
    bitext.write(tmp_path / "other.tsv", OTHER)
    return tmp_path / "human.tsv", tmp_path / "other.tsv"


def test_mix_has_so_many_copies_of_each_text(texts: tuple[Path, Path], tmp_path: Path) -> None:
    human, other = texts
    mixed = list(bitext.mix({human: 2, other: 1}))
    assert [pair.target for pair in mixed] == ["A", "A", "B", "B", "x", "y", "C", "C", "z"]
    bitext.write(tmp_path / "mixed.tsv", mixed)
    assert list(bitext.stream(tmp_path / "mixed.tsv", repeats=True)) == mixed
    assert bitext.count_pairs(tmp_path / "mixed.tsv", repeats=True) == 9


def test_text_with_an_id_twice_is_refused_where_lines_are_joined_by_id(texts: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="line 2: id 2 comes after id 2"):
        bitext.read(texts[1])


def test_mix_refuses_ids_that_fall(tmp_path: Path) -> None:
    bitext.write(tmp_path / "broken.tsv", reversed(HUMAN))
    with pytest.raises(InputError, match="line 2: id 2 comes after id 5"):
        list(bitext.mix({tmp_path / "broken.tsv": 1}))
