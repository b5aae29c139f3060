"""select: one hypothesis for every line of the training text, and the audit of the choice."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from seqkd import audit, config, corpus, selection, workers
from seqkd.progress import Progress


def main(
    row: Annotated[str, typer.Argument(help="A row of select in params.yaml.")],
    *,
    nbest: Annotated[Path, typer.Option(help="The folder of n-best lists.")],
    gold: Annotated[Path, typer.Option(help="The human text.")],
    vocab: Annotated[Path, typer.Option(help="The vocabulary of the n-best lists.")],
    out: Annotated[Path, typer.Option(help="The distilled text to write.")],
    audit_file: Annotated[Path, typer.Option("--audit", help="The audit to write.")],
) -> None:
    settings = config.row(config.params().select, row, section="select")
    pairs = corpus.read(gold)
    choose = partial(selection.choose, model=vocab, settings=settings)
    chosen: dict[int, str] = {}
    tally = audit.Tally()
    with Progress(len(pairs), unit="lines", label=f"select {row}") as bar:
        for texts, found in workers.ordered(choose, selection.parts(nbest, pairs), processes=config.machine().workers):
            chosen.update(texts)
            tally.add(found)
            bar.add(len(texts))
    corpus.write(out, corpus.join(pairs, chosen, where=str(nbest)))
    audit.write(audit_file, audit.record(tally, row, settings))
    print(audit.summary(audit.record(tally, row, settings)))
