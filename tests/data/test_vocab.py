"""The vocabulary's pieces, counted."""

from pathlib import Path

import pytest

from seqkd.data import vocab

TEXT = ["the cat sat on the mat", "der Kater saß auf der Matte"]


@pytest.mark.parametrize("byte_fallback", [False, True])
@pytest.mark.parametrize(
    "text", ["", "the cat", "qqq", "𝅘𝅥𝅮𝅘𝅥𝅮", "\u0958" * 3, "\ud800x", "𝔘𝔫𝔦", "  the   mat  "], ids=ascii
)
def test_exceeds_counts_the_pieces_of_a_text(text: str, byte_fallback: bool, tmp_path: Path) -> None:
    size = 300 if byte_fallback else 40
    pieces = vocab.train(TEXT * 3, tmp_path / "joint.model", size=size, byte_fallback=byte_fallback)
    count = len(pieces.encode(text))
    assert not pieces.exceeds(text, count)
    assert count == 0 or pieces.exceeds(text, count - 1)
