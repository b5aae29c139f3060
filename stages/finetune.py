"""finetune: a trained model goes on with a row's text and loss at a small learning rate."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd import checkpoint, config, course, hardware

Row = Annotated[str, typer.Argument(parser=config.row_name, help="A row of finetune in params.yaml.")]
Teacher = Annotated[Path, typer.Option(help="The teacher's folder, for Word-KD.")]
Texts = Annotated[Path, typer.Option(help="The folder of the texts to train on.")]
Corpus = Annotated[Path, typer.Option(help="The folder of dev.tsv and about.json.")]
Curves = Annotated[Path, typer.Option(help="The folder of the training curves.")]
Models = Annotated[Path, typer.Option(help="The folder of the models; the row's is a folder in it.")]


def main(row: Row, *, teacher: Teacher, texts: Texts, corpus: Corpus, curves: Curves, models: Models) -> None:
    """Fine-tune a model on (1 - alpha) NLL + alpha Word-KD."""
    params, machine = config.params(), config.machine()
    settings = config.row(params.finetune, row, section="finetune")
    text = texts / f"{settings.text}.tsv"
    model = checkpoint.load(models / settings.init, hardware.settle(machine, params.precision))
    plan = course.Course(row, "tune", text, corpus, settings.init, settings.alpha, teacher, settings.top_k)
    followed = course.follow(model, plan, params, machine)
    course.finish(model, followed, out=models / row, curve_out=curves / f"{row}.csv")
