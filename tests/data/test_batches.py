"""Batches of similar length, bounded in pieces."""

from pathlib import Path

import numpy as np
import torch

from seqkd.data import batches, bitext, vocab
from seqkd.data.batches import MAX_BATCH_PIECES, MAX_LINE_PIECES, TokenizedCorpus
from seqkd.data.ragged import RaggedArray


def corpus(*lengths: tuple[int, int]) -> TokenizedCorpus:
    """Return pairs with sides of so many pieces."""
    return TokenizedCorpus([[4] * source for source, _ in lengths], [[4] * target for _, target in lengths])


def plainly(text: TokenizedCorpus, size: int, seed: int) -> list[list[int]]:
    """The batches of short lines, by Python's own stable sort."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(text), generator=generator).tolist()
    rows = sorted(order, key=lambda row: (len(text.sources[row]), len(text.targets[row])))
    planned = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [planned[index] for index in torch.randperm(len(planned), generator=generator).tolist()]


def test_make_batches_sorts_the_rows_of_a_random_order_stably_by_both_lengths() -> None:
    draw = torch.Generator().manual_seed(2)
    text = corpus(*torch.randint(1, 6, (700, 2), generator=draw).tolist())
    for seed in range(3):
        planned = batches.make_batches(text, 16, torch.Generator().manual_seed(seed))
        assert list(planned) == plainly(text, 16, seed)
        assert list(planned[3:]) == plainly(text, 16, seed)[3:]
        assert list(planned[1::2]) == plainly(text, 16, seed)[1::2]


def test_make_batches_sorts_lengths_that_are_too_large_for_one_key() -> None:
    lengths = [1 << 30, 5, (1 << 30) + 1, 1 << 30]
    side = RaggedArray(np.empty(0, np.int32), np.cumsum([0, *lengths]))
    text = TokenizedCorpus(side, RaggedArray(side.values, np.cumsum([0, 7, 7, 7, 1 << 30])))
    assert list(batches.make_batches(text, 1)) == [[1], [0], [3], [2]]


def test_make_batches_leaves_a_long_pair_alone_and_all_others_together() -> None:
    text = corpus(*[(5, 5)] * 3, (4000, 3), *[(6, 6)] * 3, (7, 4000))
    assert list(batches.make_batches(text, 8)) == [[0, 1, 2, 4, 5, 6], [7], [3]]
    assert list(batches.make_batches(text, 2)) == [[0, 1], [2, 4], [5, 6], [7], [3]]


def test_make_batches_of_real_sentences_have_the_size_that_was_asked_for() -> None:
    text = corpus(*[(255, 255)] * 200)
    assert list(map(len, batches.make_batches(text, 64))) == [64, 64, 64, 8]


def test_make_batches_never_exceed_the_bound_in_pieces_padding_included() -> None:
    draw = torch.Generator().manual_seed(1)
    text = corpus(*[(1 + length % MAX_LINE_PIECES, 9) for length in torch.randint(1 << 20, (500,), generator=draw)])
    planned = batches.make_batches(text, 100, draw)
    assert sorted(row for rows in planned for row in rows) == list(range(500))
    assert max(len(rows) * text.longest(rows) for rows in planned) <= MAX_BATCH_PIECES


def test_longest_counts_the_end_of_a_target() -> None:
    text = corpus((3, 3), (5, 2), (1, 9))
    assert [text.longest([row]) for row in range(3)] == [4, 5, 10]
    assert text.longest([0, 1, 2]) == 10


def test_tokenize_numbers_the_placeholders_of_a_target_as_its_source_does(tmp_path: Path) -> None:
    pair = bitext.Pair(0, "{a} of %s", "von %s der {a}")
    bitext.write(tmp_path / "text.tsv", [pair])
    pieces = vocab.train([*pair[1:], "b c"] * 9, tmp_path / "joint.model", size=25)
    text = batches.tokenize(tmp_path / "text.tsv", pieces)
    assert [[id for id in ids if id in (4, 5)] for ids in (text.sources[0], text.targets[0])] == [[4, 5], [5, 4]]
