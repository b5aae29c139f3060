"""export: a model for use elsewhere: its folder with int8 weights, an ONNX graph, or a page that translates."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from seqkd.export import card, scores
from seqkd.models import checkpoint
from seqkd.models.checkpoint import WeightPrecision
from seqkd.utils.errors import InputError

Model = Annotated[Path, typer.Option(help="The model's folder.")]
To = Annotated[
    Literal["folder", "onnx", "page"],
    typer.Option(help="folder: for seqkd; onnx: a folder for onnxruntime; page: one HTML file that works offline."),
]
Precision = Annotated[
    WeightPrecision | None,
    typer.Option(
        help="int8: a quarter of the file size; each row of a matrix has its own scale.",
        show_default="int8; fp32 for onnx",
    ),
]
Int8 = Annotated[bool, typer.Option("--int8", help="The same as --precision int8.")]
Test = Annotated[Path | None, typer.Option(help="Pairs such as data/corpus/test.tsv, whose scores the card then has.")]
Out = Annotated[Path, typer.Option(help="The folder to write, or the HTML file.")]
WRITES = "{out}"


def main(
    *, model: Model, to: To = "folder", precision: Precision = None, int8: Int8 = False, test: Test = None, out: Out
) -> None:
    """Write a model for use elsewhere, with its card."""
    if out.exists() and out.samefile(model):
        raise InputError(f"{out}: is the model itself, which would be overwritten; name another folder.")
    loaded, about = checkpoint.load(model), card.read(model)
    precision = "int8" if int8 else precision or ("fp32" if to == "onnx" else "int8")
    if to == "page":
        from seqkd.export import browser_page

        if precision == "fp32":
            raise InputError("a page holds int8 weights; leave --precision fp32 out.")
        browser_page.write(out, loaded, about, test=test)
        print(f"{out}: {out.stat().st_size / 1e6:.2f} MB; open it in a browser")
        return
    if to == "onnx":
        from seqkd.export import onnx_folder

        onnx_folder.write(out, loaded, about, precision=precision, test=test)
        size = (out / onnx_folder.GRAPH).stat().st_size
    else:
        sent = checkpoint.rounded(loaded) if precision == "int8" else loaded
        found = scores.measure(scores.searcher(sent), test, language=about.target)
        about = card.describe(about, weights=precision, scores=found)
        checkpoint.save(out, loaded, card=about.render(), precision=precision)
        size = checkpoint.weights_size(out)
    print(f"{out}: weights {size / 1e6:.2f} MB, {checkpoint.weights_size(model) / 1e6:.2f} MB before")
