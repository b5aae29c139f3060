"""prune: a student without its smallest weights, retrained on two texts in turn."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd import checkpoint, config, course, hardware, pruning

Ratio = Annotated[float, typer.Argument(help="The share of all parameters to prune.")]
Source = Annotated[Path, typer.Option("--model", help="The folder of the model to prune.")]
Retrain = Annotated[Path, typer.Option(help="The pairs of the first retraining.")]
Finetune = Annotated[Path, typer.Option(help="The pairs of the second.")]
Corpus = Annotated[Path, typer.Option(help="The folder of dev.tsv and about.json.")]
Curve = Annotated[Path, typer.Option(help="The training curve to write.")]
Out = Annotated[Path, typer.Option(help="The model's folder to write.")]


def main(
    ratio: Ratio, *, model: Source, retrain: Retrain, finetune: Finetune, corpus: Corpus, curve: Curve, out: Out
) -> None:
    """Prune a model and retrain what is left."""
    params, machine = config.params(), config.machine()
    whole = checkpoint.load(model, hardware.settle(machine, params.precision))
    kept = pruning.mask(whole.network, ratio)
    pruning.apply(whole.network, kept)
    pruned = whole._replace(mask=kept)
    first = course.Course(out.name, retrain, corpus, params.optim.retrain, f"{model.name}, {ratio:.0%} pruned")
    second = course.Course(out.name, finetune, corpus, params.optim.tune, first.start)
    lines = course.follow(pruned, first, params, machine)
    later = course.follow(pruned, second, params, machine)
    lines += [line._replace(epoch=line.epoch + len(lines), updates=line.updates + lines[-1].updates) for line in later]
    course.finish(pruned, second, lines, out=out, curve_out=curve)
