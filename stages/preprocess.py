"""preprocess: the corpus named in params.yaml, cleaned, split and numbered, with an account of every drop."""

import json
from pathlib import Path
from typing import Annotated

import typer

from seqkd import config, corpus, recipe

Out = Annotated[Path, typer.Option(help="Folder for train.tsv, dev.tsv, test.tsv and about.json.")]
Downloads = Annotated[Path, typer.Option(help="Folder that keeps what was downloaded, for the next run.")]


def main(*, out: Out, downloads: Downloads) -> None:
    """Make the training, development and test pairs."""
    params = config.params()
    parts = recipe.prepare(params.data, seed=params.seed, downloads=downloads)
    for name in ("train", "dev", "test"):
        corpus.write(out / f"{name}.tsv", getattr(parts, name))
    with corpus.replacing(out / "about.json") as file:
        json.dump(parts.about, file, indent=2, sort_keys=True, ensure_ascii=False)
        file.write("\n")
    print(
        f"{params.data.corpus}, {params.data.source} to {params.data.target}: {len(parts.train):,} training pairs, {len(parts.dev):,} dev, {len(parts.test):,} test"
    )
    print(json.dumps(parts.about["dropped"], indent=2))
