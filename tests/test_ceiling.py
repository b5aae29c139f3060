from pathlib import Path

import pytest

from benchmarks import ceiling
from seqkd.config import schema
from seqkd.corpora import prepare
from seqkd.data import vocab


def test_ceiling_of_the_learnt_vocabulary_is_100(tmp_path: Path) -> None:
    lines = [f"house {number} is open.\t第{number}栋房子开着，请进。\n" for number in range(60)]
    (tmp_path / "text.tsv").write_text("".join(lines), encoding="utf-8")
    data = schema.DataSettings(corpus=str(tmp_path / "text.tsv"), source="en", target="zh", max_length=1, tidy=False)
    parts = prepare.prepare(data, seed=1, downloads=tmp_path)
    targets = [pair.target for pair in parts.test]
    count, score, lost, pieces, signature = ceiling.ceiling(targets, ceiling.learnt(parts, 330), tokenizer="zh")
    assert (count, lost) == (len(targets), 0)
    assert score == pytest.approx(100)
    assert pieces >= 1
    assert "|tok:zh|" in signature


def test_ceiling_counts_the_lines_that_a_vocabulary_without_bytes_cannot_write(tmp_path: Path) -> None:
    pieces = vocab.train(["a b c d e f g"] * 3, tmp_path / "joint.model", size=16)
    count, score, lost, *_ = ceiling.ceiling(["a b c d e f g", "a b c d e f h"], pieces, tokenizer="13a")
    assert (count, lost) == (2, 1)
    assert 50 < score < 100
