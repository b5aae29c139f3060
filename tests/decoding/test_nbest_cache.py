"""The n-best cache: lists are read back by any text, never half of one, never a damaged one."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from seqkd.data.nbest import Hypothesis
from seqkd.decoding import nbest_cache
from seqkd.decoding.nbest_cache import NbestCache
from seqkd.utils.errors import InputError

LISTS = {
    "a house": [Hypothesis((5, 6), -0.25, True), Hypothesis((), -1.5, True)],
    "zwei Türen": [Hypothesis((7,), -3.125, False)],
    "": [Hypothesis((), 0.0, True)],
}


def _filled(folder: Path) -> NbestCache:
    cache = nbest_cache.open_cache(folder)
    cache.add(nbest_cache.entry(source, hypotheses) for source, hypotheses in LISTS.items())
    return cache


def test_nbest_cache_returns_the_list_of_each_source(tmp_path: Path) -> None:
    cache = _filled(tmp_path / "deep" / "folder")
    assert cache.lists(["", "a house", "", "zwei Türen"]) == [
        LISTS[source] for source in ("", "a house", "", "zwei Türen")
    ]
    assert nbest_cache.open_cache(tmp_path / "deep" / "folder") == cache


def test_nbest_cache_writes_nothing_when_it_is_only_read(tmp_path: Path) -> None:
    cache = nbest_cache.open_cache(tmp_path / "deep" / "folder")
    assert list(cache.missing(["new", "a house", "new"]).values()) == ["new", "a house"]
    with pytest.raises(InputError, match="a list is gone"):
        cache.lists(["new"])
    assert list(tmp_path.iterdir()) == []


def test_nbest_cache_of_an_empty_file_has_no_list(tmp_path: Path) -> None:
    (tmp_path / "lines-1.sqlite").touch()
    assert list(nbest_cache.open_cache(tmp_path).missing(["new"]).values()) == ["new"]


def test_nbest_cache_missing_names_each_source_once_and_in_order(tmp_path: Path) -> None:
    cache = _filled(tmp_path)
    missing = cache.missing(["new", "a house", "newer", "new", "A house"])
    assert list(missing.values()) == ["new", "newer", "A house"]
    with pytest.raises(InputError, match="a list is gone"):
        cache.lists(["new"])


def test_nbest_cache_add_keeps_the_first_list_of_a_line(tmp_path: Path) -> None:
    cache = _filled(tmp_path)
    cache.add([nbest_cache.entry("a house", LISTS[""]), nbest_cache.entry("new", LISTS[""])])
    assert cache.lists(["a house", "new"]) == [LISTS["a house"], LISTS[""]]


def _change(path: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        assert file.execute(sql, values).rowcount > 0


@pytest.mark.parametrize("at", [0, 15, 16, 20, -1])
def test_nbest_cache_entry_with_one_bit_changed_counts_as_absent_and_is_replaced(tmp_path: Path, at: int) -> None:
    cache = _filled(tmp_path)
    name, kept = nbest_cache.entry("a house", LISTS["a house"])
    wrong = bytearray(kept)
    wrong[at] ^= 1
    _change(cache.path, "UPDATE lines SET list = ? WHERE source = ?", bytes(wrong), name)
    assert list(cache.missing(LISTS).values()) == ["a house"]
    with pytest.raises(InputError, match="a list is gone"):
        cache.lists(["a house"])
    cache.add([nbest_cache.entry("a house", LISTS[""])])
    assert cache.lists(["a house"]) == [LISTS[""]]


def test_nbest_cache_entry_of_another_line_counts_as_absent(tmp_path: Path) -> None:
    cache = _filled(tmp_path)
    _change(
        cache.path,
        "UPDATE lines SET list = ? WHERE source = ?",
        nbest_cache.entry("", LISTS[""])[1],
        nbest_cache.key("a house"),
    )
    assert list(cache.missing(LISTS).values()) == ["a house"]


@pytest.mark.parametrize("damage", ["text", "cut", "zeros"])
def test_nbest_cache_quarantines_a_damaged_file_and_begins_a_new_one(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = nbest_cache.open_cache(tmp_path)
    many = [f"line {number}" for number in range(3000)]
    cache.add(nbest_cache.entry(source, LISTS["a house"]) for source in many)
    whole = cache.path.read_bytes()
    middle = len(whole) // 2
    changed = {
        "text": b"not SQLite at all" * 99,
        "cut": whole[:middle],
        "zeros": whole[:8192] + bytes(len(whole) - 8192),
    }
    cache.path.write_bytes(changed[damage])
    fresh = nbest_cache.open_cache(tmp_path)
    assert fresh.path.name == "lines-2.sqlite"
    assert capsys.readouterr().err.count("damaged and quarantined") == 1
    assert list(fresh.missing(many).values()) == many
    fresh.add([nbest_cache.entry("a house", LISTS["a house"])])
    assert nbest_cache.open_cache(tmp_path) == fresh
    assert capsys.readouterr().err == ""
    assert cache.path.read_bytes() == changed[damage]


def test_nbest_cache_reports_later_damage_in_one_sentence_and_the_next_run_begins_anew(tmp_path: Path) -> None:
    cache = _filled(tmp_path)
    cache.path.write_bytes(b"not SQLite at all" * 99)
    with pytest.raises(InputError, match=r"lines-1\.sqlite: damaged and quarantined; run the command again"):
        cache.missing(["a house"])
    assert nbest_cache.open_cache(tmp_path).path.name == "lines-2.sqlite"


KILLED = """
import itertools, os, sys
from pathlib import Path
from seqkd.data.nbest import Hypothesis
from seqkd.decoding import nbest_cache
cache = nbest_cache.open_cache(Path(sys.argv[1]))
def entries():
    for number in range(5_000):
        yield nbest_cache.entry(f"line {number}", [Hypothesis((number,), -1.0, True)])
cache.add(itertools.islice(entries(), 100))
with cache._open() as database:
    database.execute("PRAGMA cache_size = 1")
    database.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?)", entries())
    os.kill(os.getpid(), 9)
"""


def test_nbest_cache_transaction_cut_off_by_a_kill_leaves_what_was_there_before(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == -9
    assert (tmp_path / "lines-1.sqlite-journal").stat().st_size > 0
    cache = nbest_cache.open_cache(tmp_path)
    sources = [f"line {number}" for number in range(5_000)]
    assert cache.path.name == "lines-1.sqlite"
    assert list(cache.missing(sources).values()) == sources[100:]


def test_nbest_cache_that_cannot_be_opened_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "lines-1.sqlite").mkdir()
    with pytest.raises(InputError, match=r"lines-1\.sqlite: unable to open database file; check its free space"):
        nbest_cache.open_cache(tmp_path)
