"""validate: check every key, row and name of params.yaml and machine.yaml before anything is run or replaced."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load
from seqkd.utils import atomic, links

External = Annotated[Path | None, typer.Option(help="A file that makes the folder of external teachers' lists.")]
Out = Annotated[Path, typer.Option(help="The file to write; always the same, so that no stage runs anew for it.")]
WRITES = "{out}"


def main(*, out: Out, external: External = None) -> None:
    """Refuse wrong settings, and names that would lead out of their folder."""
    corpus = load.params().data.corpus
    links.refuse_dangling(Path(corpus))  # DVC, which hashes the corpus next, would not say what to do
    load.machine()
    with atomic.open_text(out) as file:
        file.write("valid\n")
    if external:
        with atomic.open_text(external) as file:
            file.write("The lists of the teachers in params.yaml, as text.\n")
