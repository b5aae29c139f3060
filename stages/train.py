"""train: the teacher and the baseline student, from random weights on human text."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from seqkd.config import load, schema
from seqkd.data import vocab
from seqkd.models import checkpoint
from seqkd.ops import devices
from seqkd.planning import bounds
from seqkd.training import curve as training_curve
from seqkd.training import run

Name = Annotated[str, typer.Argument(help="The model's name.")]
Role = Annotated[Literal["teacher", "student"], typer.Option(help="The section of params.yaml with its size.")]
Text = Annotated[Path, typer.Option(help="The pairs to train on.")]
Corpus = Annotated[Path, typer.Option(help="The folder of dev.tsv and about.json.")]
Vocab = Annotated[Path, typer.Option(help="The sentencepiece model.")]
Curve = Annotated[Path, typer.Option(help="The training curve to write.")]
Out = Annotated[Path, typer.Option(help="The model's folder to write.")]
Live = Annotated[Path | None, typer.Option(help="The folder of what running trainings tell; the model has one in it.")]
WRITES = "{out}"


def main(
    name: Name, *, role: Role, text: Text, corpus: Corpus, vocabulary: Vocab, curve: Curve, out: Out, live: Live = None
) -> None:
    """Train a network from random weights on NLL; where it cannot be, its folder has a vocabulary alone."""
    params, machine = load.params(), load.machine()
    size: schema.NetworkSettings = getattr(params, role)
    if reason := params.untrained(role) or run.without_targets(text):
        checkpoint.save_vocab(out, vocab.load(vocabulary), reason=reason)
        training_curve.write_untrained(curve)
        print(f"{name}: not trained: {reason}")
        return
    device, pieces = devices.configure(machine, params.precision), vocab.load(vocabulary)
    bounds.require_network(name, size, pieces.size)
    model = run.init_model(pieces, size, seed=params.seed, device=device)
    spec = run.TrainingRun(name, role, text, corpus, init_from=run.RANDOM)
    work = model, [spec], params, machine
    run.train_and_save(*work, check=bounds.require_training, out=out, curve_out=curve, live=live)
