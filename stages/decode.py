"""decode: the teacher's n-best list for every training source."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd import budget, checkpoint, config, corpus, lists, translator
from seqkd.progress import Progress
from seqkd.translator import Job

Row = Annotated[str, typer.Argument(parser=config.row_name, help="A row of decode in params.yaml.")]
Teacher = Annotated[Path, typer.Option(help="The teacher's folder.")]
Text = Annotated[Path, typer.Option(help="The pairs whose sources are decoded.")]
Out = Annotated[Path, typer.Option(help="The folder of the n-best lists; the row's list is a folder in it.")]


def main(row: Row, *, teacher: Teacher, text: Text, out: Out) -> None:
    """Decode a text by beam search; lines that this teacher decoded before, for any text, are not decoded again."""
    params, machine = config.params(), config.machine()
    settings = config.row(params.decode, row, section="decode")
    job = Job(teacher, machine, settings.beam, settings.beam, settings.normalise, params.precision)
    kept = lists.kept(job)
    lines, new = lists.count(kept, text)
    shape, workers = checkpoint.load(teacher).network.shape, (0 if translator.on_gpu(machine) else machine.workers)
    amount = {"vocab": shape.vocab, "beam": job.beam, "workers": workers, "left": new}
    budget.admit(budget.decoding(f"decode {row}", shape, corpus.stream(text), keeping=kept.path.parent, **amount))
    with Progress(lines, unit="sentences", label=f"decode {row}", done=lines - new) as progress:
        for count in lists.fill(kept, text, job):
            progress.add(count)
    lists.write(kept, text, out / row, processes=machine.workers)
    print(f"{out / row}: {lines:,} lines, {lines - new:,} of them decoded before; {lists.account(kept)}")
