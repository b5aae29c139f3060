"""preprocess: clean, split and number the corpus named in params.yaml, and count every drop."""

import json
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import schema
from seqkd.corpora import prepare
from seqkd.data import bitext
from seqkd.utils import atomic

Reference = Annotated[Path, typer.Option(help="The file of training pairs to write.")]
Out = Annotated[Path, typer.Option(help="The folder for dev.tsv, test.tsv and about.json.")]
Downloads = Annotated[Path, typer.Option(help="The folder that keeps downloads for the next run.")]
WRITES = "{out}"


def main(*, reference: Reference, out: Out, downloads: Downloads) -> None:
    """Make the training, development and test pairs."""
    params = schema.load_params()
    parts = prepare.prepare(params.data, seed=params.seed, downloads=downloads)
    bitext.write(reference, parts.train)
    bitext.write(out / "dev.tsv", parts.dev)
    bitext.write(out / "test.tsv", parts.test)
    with atomic.open_text(out / "about.json") as file:
        json.dump(parts.about, file, indent=2, sort_keys=True, ensure_ascii=False)
        file.write("\n")
    counts = f"{len(parts.train):,} training pairs, {len(parts.dev):,} dev, {len(parts.test):,} test"
    print(f"{params.data.corpus}, {params.data.source} to {params.data.target}: {counts}")
    print(json.dumps(parts.about["dropped"], indent=2))
