"""mix: one text to train on from several, each with so many copies of its lines."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from seqkd.config import load, schema
from seqkd.data import bitext, faults
from seqkd.data.bitext import Pair
from seqkd.evaluation import metrics
from seqkd.selection import select
from seqkd.utils import atomic

Row = Annotated[str, typer.Argument(parser=schema.row_name, help="A row of mix in params.yaml.")]
Lists = Annotated[Path, typer.Option(help="The folder of the n-best lists.")]
Reference = Annotated[Path, typer.Option(help="The file of the human translations.")]
Vocab = Annotated[Path, typer.Option(help="The sentencepiece model of the n-best lists.")]
Dev = Annotated[Path, typer.Option(help="The development pairs, which show the script of the target language.")]
Texts = Annotated[Path, typer.Option(help="The folder of the training texts; the mixed text is written there.")]
WRITES = "{texts}/{row}"


def main(row: Row, *, lists: Lists, reference: Reference, vocab: Vocab, dev: Dev, texts: Texts) -> None:
    """Mix texts. DVC cannot name a row's texts as inputs, so those of select are chosen again, which takes seconds."""
    params, machine = load.params(), load.machine()
    how = {"model": vocab, "tokenizer": metrics.tokenizer_name(params.data.target)}
    how |= {"script": faults.main_script(pair.target for pair in bitext.stream(dev))}

    def choose(row: str) -> Iterator[Pair]:
        settings = params.select[row]
        monolingual = params.decode[settings.nbest].monolingual
        choices = select.choose_all(
            lists, settings, reference=reference, monolingual=monolingual, label=row, machine=machine, how=how
        )
        return chain.from_iterable(pairs for pairs, _ in choices)

    with TemporaryDirectory() as folder, atomic.atomic_write(texts / f"{row}.tsv") as partial_text:
        copies = {}
        for part, count in schema.row(params.mix, row, section="mix").items():
            path = reference if part == schema.REFERENCE else Path(folder, part)
            if path != reference:
                bitext.write(path, choose(part))
            copies[path] = count
        bitext.write(partial_text, bitext.mix(copies))
        print(f"{row}: {bitext.count_pairs(partial_text, repeats=True):,} lines")
