"""Texts known by hashes of 8 bytes, so that repeats among millions are found in little memory.

Two of n different texts have the same hash by a chance of n^2 / 2^65: for 4.5 million texts 5 in 10 million. Then one
line of the corpus would be taken for another one; the same line in every run.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

UNSIGNED = "Q"  # the kind of a column of hashes
BUCKETS = 64  # that a column is sorted in, one after the other
BLOCK = 1 << 16  # hashes looked at together

Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]
_SHIFT = np.uint64(64 - BUCKETS.bit_length() + 1)


def text_hash(text: str) -> int:
    """Return the hash of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def ordered_hash(text: str) -> int:
    """Return a hash by which texts come in the order of their SHA-256 checksums."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def runs(hashes: Hashes) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield rows by rising hash, rows of one hash in their order, and where in them a new hash begins."""
    for bucket in range(BUCKETS):
        rows = np.concatenate([start + np.flatnonzero(block >> _SHIFT == bucket) for start, block in _blocks(hashes)])
        if len(rows):
            rows = rows[hashes[rows].argsort(kind="stable")]
            ordered = hashes[rows]
            yield rows, np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))


def repeats(hashes: Hashes) -> Mask:
    """Return which rows have the hash of an earlier one."""
    found = np.ones(len(hashes), np.bool_)
    for rows, starts in runs(hashes):
        found[rows[starts]] = False
    return found


def several(hashes: Hashes, owners: Hashes) -> Mask:
    """Return which rows have a hash that rows of different owners have."""
    found = np.zeros(len(hashes), np.bool_)
    for rows, starts in runs(hashes):
        own = owners[rows]
        differ = np.minimum.reduceat(own, starts) != np.maximum.reduceat(own, starts)
        found[rows] = np.repeat(differ, np.diff(np.append(starts, len(rows))))
    return found


def among(hashes: Hashes, wanted: Sequence[int] | Hashes) -> Mask:
    """Return which rows have one of some hashes."""
    ordered, found = np.unique(np.asarray(wanted, np.uint64)), np.zeros(len(hashes), np.bool_)
    if len(ordered):
        for start, block in _blocks(hashes):
            places = ordered.searchsorted(block).clip(max=len(ordered) - 1)
            found[start : start + len(block)] = ordered[places] == block
    return found


def _blocks(hashes: Hashes) -> Iterator[tuple[int, Hashes]]:
    return ((start, hashes[start : start + BLOCK]) for start in range(0, max(1, len(hashes)), BLOCK))
