"""decode: the teacher's n-best list for every training source."""

import shutil
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from seqkd import config, corpus, nbest, resume, translator
from seqkd.progress import Progress
from seqkd.translator import Job

Row = Annotated[str, typer.Argument(help="A row of decode in params.yaml.")]
Teacher = Annotated[Path, typer.Option(help="The teacher's folder.")]
Text = Annotated[Path, typer.Option(help="The pairs whose sources are decoded.")]
Out = Annotated[Path, typer.Option(help="The folder of the n-best list.")]


def main(row: Row, *, teacher: Teacher, text: Text, out: Out) -> None:
    """Decode a text by beam search, part by part; finished parts survive an interruption."""
    params, machine = config.params(), config.machine()
    settings, pairs = config.row(params.decode, row, section="decode"), corpus.read(text)
    state = resume.folder(resume.key(repr(settings), params.precision, teacher, text))
    missing = [index for index in range(nbest.count(len(pairs))) if not nbest.part_path(state, index).exists()]
    texts = [pairs[nbest.positions(index)] for index in missing]
    beam, job = settings.beam, partial(Job, teacher, machine)
    jobs = [job([pair.source for pair in part], beam, beam, settings.normalise, params.precision) for part in texts]
    done = len(pairs) - sum(len(part) for part in texts)
    with Progress(len(pairs), unit="sentences", label=f"decode {row}", done=done) as progress:
        for index, part, found in zip(missing, texts, translator.run_all(jobs, machine), strict=True):
            nbest.write_part(state, index, zip((pair.id for pair in part), found, strict=True))
            progress.add(len(part))
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(state, out)
