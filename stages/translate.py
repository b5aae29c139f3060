"""translate: text on standard input, its translation on standard output, as it comes."""

import codecs
import os
import sys
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load
from seqkd.data.batches import MAX_LINE_PIECES
from seqkd.data.vocab import Vocab
from seqkd.decoding import translator
from seqkd.decoding.translator import DecodingJob
from seqkd.models import checkpoint
from seqkd.utils import pool
from seqkd.utils.errors import InputError

Source = Annotated[Path, typer.Option("--model", help="The model's folder.")]
Beam = Annotated[int, typer.Option(min=1, max=10_000, help="Hypotheses kept; 1 is greedy.")]
Processes = Annotated[int, typer.Option(min=1, max=1024, help="Processes of one thread each.")]
LengthPenalty = Annotated[
    float, typer.Option(min=0, max=1, help="Exponent of the length that divides the score; 0: the paper's plain sum.")
]

READ_BYTES = 1 << 16  # read at once; what has arrived is translated without waiting for more
MAX_LINE_BYTES = 1 << 14  # of a longer line only the beginning is kept


def main(*, model: Source, beam: Beam = 5, processes: Processes = 1, length_penalty: LengthPenalty = 1.0) -> None:
    """Translate lines of standard input, detokenised and in order; of a line above 1,000 pieces only the beginning."""
    on_cpu = {"device": "cpu"} if processes > 1 else {}
    machine = load.machine().model_copy(update={"processes": processes} | on_cpu)
    vocab, job = checkpoint.load(model).vocab, DecodingJob(model, machine, beam, length_penalty=length_penalty)
    rare: Counter[str] = Counter()
    waiting: deque[list[str]] = deque()  # the lines of the jobs whose hypotheses have not come yet

    def jobs() -> Iterator[DecodingJob]:
        for lines in _read_chunks(vocab):
            rare.update(character for line in lines for character in vocab.rare_characters(line))
            waiting.append(lines)
            yield job._replace(sources=lines)

    for lists in pool.map_streamed(translator.run, jobs(), processes=processes):
        for (best, *_), line in zip(lists, waiting.popleft(), strict=True):
            print(vocab.decode(best.ids, line))
        sys.stdout.flush()
    if rare:
        examples = " ".join(character for character, _ in rare.most_common(10))
        message = (
            f"{rare.total()} characters are no pieces of the vocabulary, so their translation is a guess: {examples}"
        )
        print(message, file=sys.stderr)


def _read_chunks(vocab: Vocab) -> Iterator[list[str]]:
    """Yield the complete lines of standard input, as many as have arrived but no more than make a job."""
    rest, number = b"", 0
    while data := _read():
        *complete, rest = (rest + data).split(b"\n")
        rest = rest[: MAX_LINE_BYTES + 1]  # enough to know that it is too long
        for start in range(0, len(complete), translator.CHUNK_SIZE):
            lines = complete[start : start + translator.CHUNK_SIZE]
            yield [_decode_line(line, number + offset, vocab) for offset, line in enumerate(lines, start=1)]
            number += len(lines)
    if rest:
        yield [_decode_line(rest, number + 1, vocab)]


def _read() -> bytes:
    try:
        return os.read(sys.stdin.fileno(), READ_BYTES)
    except (AttributeError, OSError):  # Python has no sys.stdin where it was closed before the start
        raise InputError("standard input is closed or cannot be read; pipe text into it.") from None


def _decode_line(line: bytes, number: int, vocab: Vocab) -> str:
    """Return a line's text, at most its first MAX_LINE_BYTES; a line that is not translated whole is named."""
    try:
        decoder = codecs.getincrementaldecoder("utf-8")()  # leaves out a character that is cut in half
        text = decoder.decode(line[:MAX_LINE_BYTES], final=len(line) <= MAX_LINE_BYTES)
    except UnicodeDecodeError:
        raise InputError(f"standard input, line {number}: not UTF-8; convert the text first.") from None
    if len(line) > MAX_LINE_BYTES or vocab.exceeds(text, MAX_LINE_PIECES):
        message = f"standard input, line {number}: so long that only its beginning is translated, at most"
        print(f"{message} {MAX_LINE_PIECES:,} pieces; break it into sentences.", file=sys.stderr, flush=True)
    return text
