"""preprocess: clean, split and number the corpus named in params.yaml, and count every drop."""

import json
import sys
from itertools import chain
from pathlib import Path
from typing import Annotated, cast

import typer

from seqkd.config import load
from seqkd.corpora import monolingual, prepare
from seqkd.corpora.prepare import Prepared
from seqkd.data import bitext
from seqkd.utils import atomic

Reference = Annotated[Path, typer.Option(help="The file of training pairs to write.")]
Own = Annotated[
    Path | None, typer.Option(help="The file to write of their sources, which students translate themselves.")
]
Out = Annotated[Path, typer.Option(help="The folder for dev.tsv, test.tsv and about.json.")]
Downloads = Annotated[Path, typer.Option(help="The folder that keeps downloads for the next run.")]
WRITES = "{out}"


def main(*, reference: Reference, own: Own = None, out: Out, downloads: Downloads) -> None:
    """Make the training, development and test pairs; lines without a translation are pairs with an empty target."""
    params = load.params()
    parts = prepare.prepare(params.data, seed=params.seed, downloads=downloads)
    others, groups = [*parts.dev, *parts.test], parts.held_out_groups
    lines = monolingual.Lines(
        params.data, train=parts.train, held_out=others, held_out_groups=groups, downloads=downloads
    )
    bitext.write(reference, chain(parts.train, lines))
    if own is not None:
        bitext.write(own, (pair._replace(target="") for pair in bitext.stream(reference)))
    bitext.write(out / "dev.tsv", parts.dev)
    bitext.write(out / "test.tsv", parts.test)
    about = lines.add_counts(parts.about)
    with atomic.open_text(out / "about.json") as file:
        json.dump(about, file, indent=2, sort_keys=True, ensure_ascii=False)
        file.write("\n")
    held_out = (f"{len(getattr(parts, name)):,} {name}{_origin(parts, name)}" for name in ("dev", "test"))
    without = [f"{lines.count:,} lines without a translation"] if lines.count else []
    counts = ", ".join([f"{len(parts.train):,} training pairs", *held_out, *without])
    print(f"{params.data.corpus}, {params.data.source} to {params.data.target}: {counts}")
    print(json.dumps(about["dropped"], indent=2))
    print(
        *(f"seqkd preprocess: {note}" for note in parts.notes), sep="\n", end="\n" * bool(parts.notes), file=sys.stderr
    )


def _origin(parts: Prepared, name: str) -> str:
    """Return where a part of the user's own text comes from, in brackets."""
    origin = cast(dict[str, object], parts.about["origin"]).get(name)
    return f" ({origin})" if isinstance(origin, str) else ""
