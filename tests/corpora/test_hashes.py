import hashlib

import numpy as np

from seqkd.corpora import hashes

DRAW = np.random.default_rng(3)
FEW = DRAW.integers(0, 1 << 63, 300, np.uint64) * np.uint64(2)  # over all buckets
MANY = DRAW.choice(FEW, 2000)


def test_runs_are_all_rows_by_rising_hash_and_place() -> None:
    found = [(rows[first], len(rows)) for rows, starts in hashes.runs(MANY) for first in starts]
    assert len(found) == len(set(MANY.tolist()))
    rows = np.concatenate([rows for rows, _ in hashes.runs(MANY)]).tolist()
    assert rows == sorted(range(2000), key=lambda row: (int(MANY[row]), row))
    assert MANY[[row for row, _ in found]].tolist() == sorted(set(MANY.tolist()))


def test_repeats_are_all_but_the_first_row_of_a_hash() -> None:
    assert hashes.repeats(MANY).tolist() == [value in MANY[:row] for row, value in enumerate(MANY)]
    assert hashes.repeats(MANY[:0]).tolist() == []


def test_several_are_the_rows_of_a_hash_with_different_owners() -> None:
    texts, owners = (np.array(column, np.uint64) for column in ([5, 5, 1 << 63, 7, 7, 7], [1, 2, 3, 4, 4, 4]))
    assert hashes.several(texts, owners).tolist() == [True, True, False, False, False, False]


def test_among_finds_hashes_beyond_63_bits_and_none_in_nothing() -> None:
    values = np.array([1, (1 << 64) - 1, 1 << 63], np.uint64)
    assert hashes.among(values, [(1 << 64) - 1, 2, 1]).tolist() == [True, True, False]
    assert not hashes.among(values, []).any()


def test_ordered_hash_has_the_order_of_sha256() -> None:
    texts = [f"17/{number}" for number in range(200)]
    by_digest = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
    assert sorted(texts, key=hashes.ordered_hash) == by_digest
