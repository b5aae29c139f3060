"""speed: words per second of teacher and students, measured alternately in one run (Table 2)."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd import checkpoint, config, corpus, hardware, page, plots, results, stopwatch, table

Models = Annotated[Path, typer.Option(help="The folder of the models.")]
Corpus = Annotated[Path, typer.Option(help="The folder of test.tsv and about.json.")]
Scores = Annotated[Path, typer.Option(help="The folder of the scores.")]
Audits = Annotated[Path, typer.Option(help="The folder of the audits.")]
Reports = Annotated[Path, typer.Option(help="The folder of the tables; Table 2 and the page are written there.")]


def main(*, models: Models, corpus_folder: Corpus, scores: Scores, audits: Audits, reports: Reports) -> None:
    """Measure Table 2, and write the page that shows all tables."""
    params, machine = config.params(), config.machine()
    settings, device = params.speed, hardware.settle(machine)
    sources = [pair.source for pair in corpus.read(corpus_folder / "test.tsv")[: settings.sentences]]
    loaded = {name: checkpoint.load(models / name, device) for name in settings.models}
    beams, normalise = params.evaluate.beams, params.evaluate.normalise
    measured = stopwatch.measure(loaded, sources, beams=beams, normalise=normalise, rounds=settings.rounds)
    scored, speeds = results.scores(scores, params), results.speeds(measured)
    table.write(table.speed_table(speeds, scored), reports, "table2")
    plots.speed(speeds, scored, reports / "plots")
    page.write(reports, audits=audits, about=corpus_folder / "about.json")
