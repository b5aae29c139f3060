"""speed: words per second of teacher and students, measured in turn in one run (Table 2)."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import schema
from seqkd.data import bitext
from seqkd.evaluation import speed
from seqkd.models import checkpoint
from seqkd.ops import devices
from seqkd.reporting import html_page, plots, results, tables

Models = Annotated[Path, typer.Option(help="The folder of all models.")]
Corpus = Annotated[Path, typer.Option(help="The folder of test.tsv and about.json.")]
Scores = Annotated[Path, typer.Option(help="The folder of the scores.")]
Audits = Annotated[Path, typer.Option(help="The folder of the audits.")]
Reports = Annotated[Path, typer.Option(help="The folder of the reports; Table 2 and index.html are written there.")]


def main(*, models: Models, corpus_folder: Corpus, scores: Scores, audits: Audits, reports: Reports) -> None:
    """Measure Table 2, and write the HTML page with all tables."""
    params, machine = schema.load_params(), schema.load_machine()
    settings, device = params.speed, devices.configure(machine)
    sources = [pair.source for pair in bitext.read(corpus_folder / "test.tsv")[: settings.sentences]]
    loaded = {name: checkpoint.load(models / name, device) for name in settings.models}
    beams, length_penalty = params.evaluate.beams, params.evaluate.length_penalty
    speeds = speed.measure(loaded, sources, beams=beams, length_penalty=length_penalty, rounds=settings.rounds)
    model_scores = results.scores(scores, params)
    tables.write(tables.speed_table(speeds, model_scores), reports, "table2")
    plots.write_speed(speeds, model_scores, reports / "plots")
    html_page.write(reports, audits=audits, about=corpus_folder / "about.json")
