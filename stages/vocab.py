"""vocab: learn one joint sentencepiece vocabulary from both sides of the training text."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import schema
from seqkd.data import bitext, vocab

Text = Annotated[Path, typer.Option(help="The training pairs.")]
Out = Annotated[Path, typer.Option(help="The sentencepiece model to write.")]
WRITES = "{out}"


def main(*, text: Text, out: Out) -> None:
    """Learn the joint vocabulary."""
    pairs, settings = bitext.read(text), schema.load_params().vocab
    sides = [side for pair in pairs for side in (pair.source, pair.target)]
    joint = vocab.train(sides, out, **settings.model_dump())
    encoded = joint.encode_all(sides)
    changed = sum(text != side for text, side in zip(joint.decode_all(encoded), sides, strict=True))
    rare = Counter(character for side in sides for character in joint.rare_characters(side))
    print(f"{joint.size:,} pieces; a target sentence has {sum(map(len, encoded[1::2])) / len(pairs):.1f} on average")
    print(
        f"{len(rare):,} characters are too rare to be pieces and stand {rare.total():,} times in the text; "
        f"{changed:,} of {len(sides):,} sentences do not come back from their pieces as they were"
    )
