"""select: one hypothesis for every line of the training text, and the audit of the choice."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import schema
from seqkd.data import bitext
from seqkd.data.bitext import Pair
from seqkd.selection import audit, select
from seqkd.utils import pool
from seqkd.utils.progress import Progress

WRITES = "{texts}/{row}"


def main(
    row: Annotated[str, typer.Argument(parser=schema.row_name, help="A row of select in params.yaml.")],
    *,
    lists: Annotated[Path, typer.Option(help="The folder of the n-best lists.")],
    gold: Annotated[Path, typer.Option(help="The human text.")],
    vocab: Annotated[Path, typer.Option(help="The vocabulary of the n-best lists.")],
    texts: Annotated[Path, typer.Option(help="The folder of the texts; the distilled one is written there.")],
    audits: Annotated[Path, typer.Option(help="The folder of the audits; the row's is written there.")],
) -> None:
    settings = schema.row(schema.load_params().select, row, section="select")
    lines, tally = bitext.count_pairs(gold), audit.SelectionStats()
    parts = select.parts(lists / settings.nbest, bitext.stream(gold), lines=lines)
    choose = partial(select.choose, model=vocab, settings=settings)

    def chosen() -> Iterator[Pair]:
        with Progress(lines, unit="lines", label=f"select {row}") as bar:
            for pairs, found in pool.map_ordered(choose, parts, processes=schema.load_machine().processes):
                tally.add(found)
                bar.add(len(pairs))
                yield from pairs

    bitext.write(texts / f"{row}.tsv", chosen())
    audit.write(audits / f"{row}.json", audit.record(tally, row, settings))
    print(audit.summary(audit.record(tally, row, settings)))
