import random

from seqkd.corpora.stored import Chosen, Line, LineWriter


def test_stored_lines_and_a_choice_of_a_choice_give_back_the_texts() -> None:
    writer, lines = LineWriter(), [Line("", f"über {number}", "ß" * number) for number in range(9)]
    for line in lines:
        writer.add(line.source, line.target)
    stored = writer.finish()
    assert list(stored) == lines == [stored[row] for row in range(9)]
    assert (stored[-1], list(stored[7:])) == (lines[-1], lines[7:])
    order = random.Random(1).sample(range(9), 6)
    chosen = Chosen(stored, order)
    assert list(chosen) == [lines[row] for row in order]
    assert list(Chosen(chosen, [4, 0])) == [lines[order[4]], lines[order[0]]] == [chosen[4], chosen[-6]]
    assert list(chosen[1:3]) == [lines[row] for row in order[1:3]]
    assert chosen != lines
