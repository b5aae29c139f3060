"""train: the teacher and the baseline student, from random weights on human text."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from seqkd import config, course, hardware, vocab

Name = Annotated[str, typer.Argument(help="The model's name.")]
Role = Annotated[Literal["teacher", "student"], typer.Option(help="The section of params.yaml with its size.")]
Text = Annotated[Path, typer.Option(help="The pairs to train on.")]
Corpus = Annotated[Path, typer.Option(help="The folder of dev.tsv and about.json.")]
Vocab = Annotated[Path, typer.Option(help="The sentencepiece model.")]
Curve = Annotated[Path, typer.Option(help="The training curve to write.")]
Out = Annotated[Path, typer.Option(help="The model's folder to write.")]


def main(name: Name, *, role: Role, text: Text, corpus: Corpus, vocabulary: Vocab, curve: Curve, out: Out) -> None:
    """Train a network from random weights on NLL."""
    params, machine = config.params(), config.machine()
    size: config.Network = getattr(params, role)
    device, pieces = hardware.settle(machine, params.precision), vocab.load(vocabulary)
    model = course.fresh(pieces, size, seed=params.seed, device=device)
    plan = course.Course(name, role, text, corpus, start="random")
    course.finish(model, course.follow(model, plan, params, machine), out=out, curve_out=curve)
