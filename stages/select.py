"""select: one hypothesis for every line of the training text, and the audit of the choice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load, schema
from seqkd.data import bitext, faults, list_origin
from seqkd.data.bitext import Pair
from seqkd.evaluation import measurements, metrics
from seqkd.selection import audit, select
from seqkd.utils import atomic

Row = Annotated[str, typer.Argument(parser=schema.row_name, help="A row of select in params.yaml.")]
Lists = Annotated[Path, typer.Option(help="The folder of the n-best lists.")]
Reference = Annotated[Path, typer.Option(help="The file of the human translations.")]
Vocab = Annotated[Path, typer.Option(help="The sentencepiece model of the n-best lists.")]
Dev = Annotated[Path | None, typer.Option(help="The development pairs, which show the script of the target language.")]
Texts = Annotated[Path, typer.Option(help="The folder of the training texts; the chosen text is written there.")]
Audits = Annotated[Path, typer.Option(help="The folder of the audits; the row's audit is written there.")]
WRITES = "{texts}/{row}"


def main(
    row: Row, *, lists: Lists, reference: Reference, vocab: Vocab, dev: Dev = None, texts: Texts, audits: Audits
) -> None:
    """Choose one hypothesis for every line by the metric of a row of params.yaml."""
    params = load.params()
    settings, tokenizer = schema.row(params.select, row, section="select"), metrics.tokenizer_name(params.data.target)
    stats = audit.SelectionStats()
    script = faults.main_script(pair.target for pair in bitext.stream(dev)) if dev else ""
    how, machine = {"model": vocab, "tokenizer": tokenizer, "script": script}, load.machine()
    monolingual = params.decode[settings.nbest].monolingual
    choices = select.choose_all(
        lists, settings, reference=reference, monolingual=monolingual, label=row, machine=machine, how=how
    )

    def chosen_pairs() -> Iterator[Pair]:
        for pairs, part_stats in choices:
            stats.add(part_stats)
            yield from pairs

    with atomic.atomic_write(texts / f"{row}.tsv") as partial_text:
        bitext.write(partial_text, chosen_pairs())
        origin = list_origin.read(lists / settings.nbest)
        result = audit.summarize(stats, row, settings, tokenizer=tokenizer, origin=origin)
    measurements.write(audits / f"{row}.json", result)
    print(audit.describe(result))
