"""finetune: a trained model goes on with a row's text and loss at a small learning rate."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd import checkpoint, config, course, hardware

Row = Annotated[str, typer.Argument(help="A row of finetune in params.yaml.")]
Init = Annotated[Path, typer.Option(help="The folder of the model to start from.")]
Teacher = Annotated[Path, typer.Option(help="The teacher's folder, for Word-KD.")]
Text = Annotated[Path, typer.Option(help="The pairs to train on.")]
Corpus = Annotated[Path, typer.Option(help="The folder of dev.tsv and about.json.")]
Curve = Annotated[Path, typer.Option(help="The training curve to write.")]
Out = Annotated[Path, typer.Option(help="The model's folder to write.")]


def main(row: Row, *, init: Init, teacher: Teacher, text: Text, corpus: Corpus, curve: Curve, out: Out) -> None:
    """Fine-tune a model on (1 - alpha) NLL + alpha Word-KD."""
    params, machine = config.params(), config.machine()
    settings = config.row(params.finetune, row, section="finetune")
    model = checkpoint.load(init, hardware.settle(machine, params.precision))
    plan = course.Course(row, text, corpus, params.optim.tune, settings.init, settings.alpha, teacher)
    lines = course.follow(model, plan, params, machine)
    course.finish(model, plan, lines, out=out, curve_out=curve)
