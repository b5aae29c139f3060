"""select: one hypothesis for every line of the training text, and the audit of the choice."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from seqkd import audit, config, corpus, selection, workers
from seqkd.corpus import Pair
from seqkd.progress import Progress


def main(
    row: Annotated[str, typer.Argument(parser=config.row_name, help="A row of select in params.yaml.")],
    *,
    lists: Annotated[Path, typer.Option(help="The folder of the n-best lists.")],
    gold: Annotated[Path, typer.Option(help="The human text.")],
    vocab: Annotated[Path, typer.Option(help="The vocabulary of the n-best lists.")],
    texts: Annotated[Path, typer.Option(help="The folder of the texts; the distilled one is written there.")],
    audits: Annotated[Path, typer.Option(help="The folder of the audits; the row's is written there.")],
) -> None:
    settings = config.row(config.params().select, row, section="select")
    lines, tally = corpus.count(gold), audit.Tally()
    parts = selection.parts(lists / settings.nbest, corpus.stream(gold), lines=lines)
    choose = partial(selection.choose, model=vocab, settings=settings)

    def chosen() -> Iterator[Pair]:
        with Progress(lines, unit="lines", label=f"select {row}") as bar:
            for pairs, found in workers.ordered(choose, parts, processes=config.machine().workers):
                tally.add(found)
                bar.add(len(pairs))
                yield from pairs

    corpus.write(texts / f"{row}.tsv", chosen())
    audit.write(audits / f"{row}.json", audit.record(tally, row, settings))
    print(audit.summary(audit.record(tally, row, settings)))
