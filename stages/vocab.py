"""vocab: one joint sentencepiece vocabulary, learnt from the text that the students will read, or a teacher's."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load
from seqkd.data import bitext, text_lists, vocab
from seqkd.utils import atomic

Text = Annotated[Path, typer.Option(help="The training pairs.")]
External = Annotated[Path, typer.Option(help="The folder of external teachers' lists.")]
Out = Annotated[Path, typer.Option(help="The sentencepiece model to write.")]
WRITES = "{out}"
REPORTED = 10_000  # sentences encoded together for the report


def main(*, text: Text, external: External = Path("data/external"), out: Out) -> None:
    """Learn the joint vocabulary from both sides of the pairs, and from what external teachers wrote.

    With vocab.from it is that of a teacher, which the stage `teach` has found.
    """
    params = load.params()
    lists = [external / owner / row for row, each in params.decode.items() if (owner := params.teacher_of(each))]
    human = (side for pair in bitext.stream(text) for side in (pair.source, pair.target) if side)
    written = chain.from_iterable(text_lists.sound(folder, text) for folder in lists)
    sides = vocab.sample(chain(human, written), most=params.vocab.max_sentences)
    if params.vocab.teacher is None:
        joint = vocab.train(sides, out, **params.vocab.model_dump(exclude={"teacher", "max_sentences"}))
    else:
        joint = vocab.load(external / params.vocab.teacher / text_lists.VOCAB)
        with atomic.atomic_write(out) as partial:
            partial.write_bytes(joint.model)
    pieces = changed = 0
    for start in range(0, len(sides), REPORTED):
        some = sides[start : start + REPORTED]
        encoded = joint.encode_all(some)
        pieces += sum(map(len, encoded))
        changed += sum(text != side for text, side in zip(joint.decode_all(encoded, some), some, strict=True))
    rare = Counter(character for side in sides for character in joint.rare_characters(side))
    print(f"{joint.size:,} pieces; a sentence has {pieces / len(sides):.1f} on average")
    print(
        f"{len(rare):,} characters are no pieces and stand {rare.total():,} times in the text; "
        f"{changed:,} of {len(sides):,} sentences do not come back from their pieces as they were"
    )
