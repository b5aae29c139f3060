"""finetune: a trained model goes on with a row's text and loss at a small learning rate."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load, schema
from seqkd.decoding import beam_search
from seqkd.models import checkpoint
from seqkd.ops import devices
from seqkd.planning import bounds
from seqkd.training import run

Row = Annotated[str, typer.Argument(parser=schema.row_name, help="A row of finetune in params.yaml.")]
Teacher = Annotated[Path, typer.Option(help="The teacher's folder, for Word-KD.")]
Texts = Annotated[Path, typer.Option(help="The folder of the texts to train on.")]
Corpus = Annotated[Path, typer.Option(help="The folder of dev.tsv and about.json.")]
Curves = Annotated[Path, typer.Option(help="The folder of the training curves.")]
Models = Annotated[Path, typer.Option(help="The folder of the models; the row's is a folder in it.")]
Live = Annotated[Path | None, typer.Option(help="The folder of what running trainings tell; the model has one in it.")]
WRITES = "{models}/{row}"


def main(
    row: Row, *, teacher: Teacher, texts: Texts, corpus: Corpus, curves: Curves, models: Models, live: Live = None
) -> None:
    """Fine-tune a model on (1 - alpha) NLL + alpha Word-KD."""
    params, machine = load.params(), load.machine()
    settings = schema.row(params.finetune, row, section="finetune")
    model = checkpoint.load(models / settings.init_from, devices.configure(machine, params.precision))
    paths = {"texts": texts, "corpus": corpus, "teacher": teacher}
    spec = run.TrainingRun.of_row(
        row, settings, params.word_teacher, optim="finetune", init_from=settings.init_from, **paths
    )
    train = partial(run.train_and_save, check=bounds.require_training, search=beam_search.greedy, live=live)
    train(model, [spec], params, machine, out=models / row, curve_out=curves / f"{row}.csv")
