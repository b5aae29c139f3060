"""report: tables, metrics.json and the plots, from the rows that params.yaml names."""

import json
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load
from seqkd.reporting import charts, results, sentences, table_text, tables
from seqkd.utils import atomic

Scores = Annotated[Path, typer.Option(help="The folder of the scores.")]
Curves = Annotated[Path, typer.Option(help="The folder of the training curves.")]
Audits = Annotated[Path, typer.Option(help="The folder of the audits.")]
Evidence = Annotated[Path, typer.Option(help="The folder that the stage evidence wrote.")]
Out = Annotated[Path, typer.Option(help="The folder of the reports; tables, plots and metrics.json are written there.")]
WRITES = "{out}"


def main(*, scores: Scores, curves: Curves, audits: Audits, evidence: Evidence, out: Out) -> None:
    """Write the tables and plots of the rows in params.yaml, and print Table 1."""
    params = load.params()
    all_results = results.Results(
        results.scores(scores, params),
        results.curves(curves, params),
        results.audits(audits, params),
        results.evidence(evidence, params),
    )
    model_scores, certain = all_results.scores, all_results.evidence
    methods = tables.method_table(params, model_scores, certain)
    tables.write(methods, out, "table1")
    tables.write(tables.pruning_table(params, model_scores, certain), out, "table3")
    tables.write(tables.fault_table(params, certain), out, "faults")
    with atomic.open_text(out / "metrics.json") as file:
        json.dump(tables.dvc_metrics(params, model_scores, certain), file, indent=2)
        file.write("\n")
    charts.write(params, all_results, out / "plots")
    print(table_text.to_text(methods), *sentences.certainty(methods), sep="\n")
