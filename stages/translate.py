"""translate: text on standard input, its translation on standard output, as it comes."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from seqkd import checkpoint, config, translator
from seqkd.errors import InputError

Source = Annotated[Path, typer.Option("--model", help="The model's folder.")]
Beam = Annotated[int, typer.Option(min=1, help="Hypotheses kept; 1 is greedy.")]
Threads = Annotated[int, typer.Option(min=1, help="Processes of one thread each.")]
Normalise = Annotated[float, typer.Option(min=0, max=1, help="Exponent of the length that divides the score.")]

AT_ONCE = 1 << 16  # bytes read in one go; what is there is translated without waiting for more


def main(*, model: Source, beam: Beam = 5, threads: Threads = 1, normalise: Normalise = 0.0) -> None:
    """Translate lines of standard input, detokenised and in order."""
    machine = config.Machine(workers=threads, device="cpu" if threads > 1 else "auto")
    vocab = checkpoint.load(model).vocab
    for lines in _arriving():
        for hypothesis in translator.best(model, lines, beam=beam, machine=machine, normalise=normalise):
            print(vocab.decode(hypothesis.ids))
        sys.stdout.flush()


def _arriving() -> Iterator[list[str]]:
    """The whole lines of standard input, as many as have arrived."""
    rest, number = b"", 0
    while read := os.read(sys.stdin.fileno(), AT_ONCE):
        *whole, rest = (rest + read).split(b"\n")
        if whole:
            yield [_text(line, number + at) for at, line in enumerate(whole, start=1)]
            number += len(whole)
    if rest:
        yield [_text(rest, number + 1)]


def _text(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise InputError(f"standard input, line {number}: not UTF-8; convert the text first.") from None
