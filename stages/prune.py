"""prune: a student without its smallest weights, retrained on two texts in turn."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import schema
from seqkd.models import checkpoint
from seqkd.ops import devices
from seqkd.training import pruning, run

Row = Annotated[str, typer.Argument(parser=schema.row_name, help="A ratio of prune.ratios in params.yaml.")]
Texts = Annotated[Path, typer.Option(help="The folder of the texts to retrain on.")]
Corpus = Annotated[Path, typer.Option(help="The folder of dev.tsv and about.json.")]
Curves = Annotated[Path, typer.Option(help="The folder of the training curves.")]
Models = Annotated[Path, typer.Option(help="The folder of the models; the pruned one is a folder in it.")]
WRITES = "{models}/prune-{row}"


def main(row: Row, *, texts: Texts, corpus: Corpus, curves: Curves, models: Models) -> None:
    """Prune a model and retrain what is left."""
    params, machine = schema.load_params(), schema.load_machine()
    settings, name = params.prune, f"prune-{row}"
    ratio = schema.row(params.pruned, name, section="prune.ratios")
    whole = checkpoint.load(models / settings.model, devices.configure(machine, params.precision))
    kept = pruning.mask(whole.network, ratio)
    pruning.apply(whole.network, kept)
    pruned = whole._replace(mask=kept)
    start = f"{settings.model}, {ratio:.0%} pruned"
    plans = (("retrain", settings.retrain), ("tune", settings.finetune))
    courses = [run.TrainingRun(name, part, texts / f"{text}.tsv", corpus, start) for part, text in plans]
    followed = [run.train(pruned, each, params, machine) for each in courses]
    run.save(pruned, *followed, out=models / name, curve_out=curves / f"{name}.csv")
