"""prune: a student without its smallest weights, retrained on two texts in turn."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load, schema
from seqkd.models import checkpoint
from seqkd.ops import devices
from seqkd.planning import bounds
from seqkd.training import pruning, run

Row = Annotated[str, typer.Argument(parser=schema.row_name, help="A ratio of prune.ratios in params.yaml.")]
Texts = Annotated[Path, typer.Option(help="The folder of the texts to retrain on.")]
Corpus = Annotated[Path, typer.Option(help="The folder of dev.tsv and about.json.")]
Curves = Annotated[Path, typer.Option(help="The folder of the training curves.")]
Models = Annotated[Path, typer.Option(help="The folder of the models; the pruned one is a folder in it.")]
Live = Annotated[Path | None, typer.Option(help="The folder of what running trainings tell; the model has one in it.")]
WRITES = "{models}/prune-{row}"


def main(row: Row, *, texts: Texts, corpus: Corpus, curves: Curves, models: Models, live: Live = None) -> None:
    """Prune a model and retrain what is left."""
    params, machine = load.params(), load.machine()
    settings, name = params.prune, f"prune-{row}"
    ratio = schema.row(params.pruned, name, section="prune.ratios")
    model = checkpoint.load(models / settings.model, devices.configure(machine, params.precision))
    mask = pruning.mask(model.network, ratio)
    pruning.apply(model.network, mask)
    pruned, init_from = model._replace(mask=mask), f"{settings.model}, {ratio:.0%} pruned"
    retrain = run.TrainingRun(name, "retrain", texts / f"{settings.retrain}.tsv", corpus, init_from)
    finetune = run.TrainingRun(name, "finetune", texts / f"{settings.finetune}.tsv", corpus, init_from)
    work, curve = (pruned, [retrain, finetune], params, machine), curves / f"{name}.csv"
    run.train_and_save(*work, check=bounds.require_training, out=models / name, curve_out=curve, live=live)
