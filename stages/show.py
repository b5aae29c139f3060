"""show: the tables of the report, as text."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd.reporting import sentences, table_text, tables

TITLES = {"table1": "Every method", "table2": "Speed", "table3": "Pruning"}
Reports = Annotated[Path, typer.Option(help="The folder of the reports.")]


def main(*, reports: Reports) -> None:
    """Print Tables 1, 2 and 3, or that Table 2 was not measured yet."""
    for name, title in TITLES.items():
        path = reports / f"{name}.csv"
        if name == "table2" and not path.exists():
            print(f"Table 2. {title}: not measured yet; run dvc repro.\n")
        else:
            frame = tables.read(path)
            print(f"Table {name[-1]}. {title}\n\n{table_text.to_text(frame)}\n")
            if name == "table1" and "bootstrap" in frame:  # the sentences that README repeats
                print(*sentences.certainty(tables.read_methods(path)), "", sep="\n")
