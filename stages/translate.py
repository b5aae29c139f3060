"""translate: text on standard input, its translation on standard output, as it comes."""

import codecs
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import schema
from seqkd.decoding import translator
from seqkd.decoding.translator import DecodingJob
from seqkd.models import checkpoint
from seqkd.utils import pool
from seqkd.utils.errors import InputError

Source = Annotated[Path, typer.Option("--model", help="The model's folder.")]
Beam = Annotated[int, typer.Option(min=1, max=10_000, help="Hypotheses kept; 1 is greedy.")]
Threads = Annotated[int, typer.Option(min=1, max=1024, help="Processes of one thread each.")]
Normalise = Annotated[
    float, typer.Option(min=0, max=1, help="Exponent of the length that divides the score; 0: the paper's plain sum.")
]

AT_ONCE = 1 << 16  # bytes read in one go; what is there is translated without waiting for more
LONGEST = 1 << 14  # bytes of a line that are translated


def main(*, model: Source, beam: Beam = 5, threads: Threads = 1, length_penalty: Normalise = 1.0) -> None:
    """Translate lines of standard input, detokenised and in order; of a line above 16 KiB only the beginning."""
    machine = schema.load_machine().model_copy(update={"workers": threads} | ({"device": "cpu"} if threads > 1 else {}))
    vocab, job = checkpoint.load(model).vocab, DecodingJob(model, machine, beam, length_penalty=length_penalty)
    jobs = (job._replace(sources=lines) for lines in _arriving())
    for found in pool.map_streamed(translator.run, jobs, processes=threads):
        for best, *_ in found:
            print(vocab.decode(best.ids))
        sys.stdout.flush()


def _arriving() -> Iterator[list[str]]:
    """The whole lines of standard input, as many as have arrived but no more than make a job."""
    rest, number = b"", 0
    while read := _read():
        *whole, rest = (rest + read).split(b"\n")
        rest = rest[: LONGEST + 1]  # enough to know that it is too long
        for at in range(0, len(whole), translator.CHUNK_SIZE):
            lines = whole[at : at + translator.CHUNK_SIZE]
            yield [_text(line, number + place) for place, line in enumerate(lines, start=1)]
            number += len(lines)
    if rest:
        yield [_text(rest, number + 1)]


def _read() -> bytes:
    try:
        return os.read(sys.stdin.fileno(), AT_ONCE)
    except (AttributeError, OSError):  # Python has no sys.stdin where it was closed before the start
        raise InputError("standard input is closed or cannot be read; pipe text into it.") from None


def _text(line: bytes, number: int) -> str:
    try:
        if len(line) <= LONGEST:
            return line.decode("utf-8").strip()
        told = f"standard input, line {number}: longer than {LONGEST:,} bytes, so only its beginning is translated"
        print(f"{told}; break it into sentences.", file=sys.stderr, flush=True)
        return codecs.getincrementaldecoder("utf-8")().decode(line[:LONGEST]).strip()  # without half a character
    except UnicodeDecodeError:
        raise InputError(f"standard input, line {number}: not UTF-8; convert the text first.") from None
