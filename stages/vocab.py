"""vocab: learn one joint sentencepiece vocabulary from both sides of the training text."""

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
    mean_length = sum(len(joint.encode(pair.target)) for pair in pairs) / len(pairs)
    print(f"{joint.size:,} pieces; a target sentence has {mean_length:.1f} on average")
