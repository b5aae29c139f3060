"""distill: a student from random weights on a row's text and loss."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd import checkpoint, config, course, hardware

Row = Annotated[str, typer.Argument(parser=config.row_name, help="A row of distill in params.yaml.")]
Teacher = Annotated[Path, typer.Option(help="The teacher's folder; its vocabulary becomes the student's.")]
Texts = Annotated[Path, typer.Option(help="The folder of the texts to train on.")]
Corpus = Annotated[Path, typer.Option(help="The folder of dev.tsv and about.json.")]
Curves = Annotated[Path, typer.Option(help="The folder of the training curves.")]
Models = Annotated[Path, typer.Option(help="The folder of the models; the row's is a folder in it.")]


def main(row: Row, *, teacher: Teacher, texts: Texts, corpus: Corpus, curves: Curves, models: Models) -> None:
    """Train a student from random weights on (1 - alpha) NLL + alpha Word-KD."""
    params, machine = config.params(), config.machine()
    device, settings = hardware.settle(machine, params.precision), config.row(params.distill, row, section="distill")
    model = course.fresh(checkpoint.load(teacher).vocab, params.student, seed=params.seed, device=device)
    text = texts / f"{settings.text}.tsv"
    plan = course.Course(row, "student", text, corpus, "random", settings.alpha, teacher, settings.top_k)
    followed = course.follow(model, plan, params, machine)
    course.finish(model, followed, out=models / row, curve_out=curves / f"{row}.csv")
