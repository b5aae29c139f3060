"""distill: a student from random weights on a row's text and loss."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd import checkpoint, config, course, hardware

Row = Annotated[str, typer.Argument(help="A row of distill in params.yaml.")]
Teacher = Annotated[Path, typer.Option(help="The teacher's folder; its vocabulary becomes the student's.")]
Text = Annotated[Path, typer.Option(help="The pairs to train on.")]
Corpus = Annotated[Path, typer.Option(help="The folder of dev.tsv and about.json.")]
Curve = Annotated[Path, typer.Option(help="The training curve to write.")]
Out = Annotated[Path, typer.Option(help="The model's folder to write.")]


def main(row: Row, *, teacher: Teacher, text: Text, corpus: Corpus, curve: Curve, out: Out) -> None:
    """Train a student from random weights on (1 - alpha) NLL + alpha Word-KD."""
    params, machine = config.params(), config.machine()
    device, settings = hardware.settle(machine, params.precision), config.row(params.distill, row, section="distill")
    model = course.fresh(checkpoint.load(teacher).vocab, params.student, seed=params.seed, device=device)
    plan = course.Course(row, text, corpus, params.optim.student, "random", settings.alpha, teacher)
    lines = course.follow(model, plan, params, machine)
    course.finish(model, plan, lines, out=out, curve_out=curve)
