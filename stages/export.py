"""export: a model's folder for use elsewhere, its weights in int8."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd.models import checkpoint
from seqkd.models.checkpoint import WeightPrecision
from seqkd.utils.errors import InputError

Model = Annotated[Path, typer.Option(help="The model's folder.")]
Precision = Annotated[
    WeightPrecision, typer.Option(help="int8: a quarter of the file size; each row of a matrix has its own scale.")
]
Out = Annotated[Path, typer.Option(help="The folder to write.")]
WRITES = "{out}"


def main(*, model: Model, precision: Precision = "int8", out: Out) -> None:
    """Write a model with its weights in another precision; every command can read it."""
    if out.exists() and out.samefile(model):
        raise InputError(f"{out}: is the model itself, which would be overwritten; name another folder.")
    loaded = checkpoint.load(model)
    card = (model / checkpoint.CARD).read_text(encoding="utf-8", errors="replace")
    checkpoint.save(out, loaded, card=f"{card}\nWeights: {precision}.\n", precision=precision)
    before, after = checkpoint.weights_size(model), checkpoint.weights_size(out)
    print(f"{out}: weights {after / 1e6:.2f} MB, {before / 1e6:.2f} MB before")
