"""speed: words per second of teacher and students, measured in turn in one run (Table 2 and the ladder)."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from seqkd.config import load
from seqkd.data import bitext
from seqkd.evaluation import outputs, speed
from seqkd.models import checkpoint
from seqkd.ops import devices
from seqkd.reporting import charts, examples, html_page, results, tables
from seqkd.reporting.html_page import Content

Models = Annotated[Path, typer.Option(help="The folder of all models.")]
Corpus = Annotated[Path, typer.Option(help="The folder of test.tsv and about.json.")]
Scores = Annotated[Path, typer.Option(help="The folder of the scores.")]
Audits = Annotated[Path, typer.Option(help="The folder of the audits.")]
Evidence = Annotated[Path, typer.Option(help="The folder that the stage evidence wrote.")]
Translations = Annotated[Path, typer.Option(help="The folder of the translations of the test set.")]
Reports = Annotated[Path, typer.Option(help="The folder of the reports; what shows timings is written there.")]


def main(
    *,
    models: Models,
    corpus_folder: Corpus,
    scores: Scores,
    audits: Audits,
    evidence: Evidence,
    translations: Translations,
    reports: Reports,
) -> None:
    """Measure Table 2 and the speeds of the ladder, and write the HTML page with all tables."""
    params, machine = load.params(), load.machine()
    settings, device = params.speed, devices.configure(machine)
    pairs, certain = bitext.read(corpus_folder / "test.tsv"), results.evidence(evidence, params)
    with TemporaryDirectory() as folder:
        *rungs, int8 = dict.fromkeys(rung.model for rung in certain.ladder)
        paths = {model: models / model for model in (*settings.models, *rungs)}
        paths[int8] = outputs.export_int8(models / certain.ladder[-2].model, Path(folder))
        loaded = {name: checkpoint.load(path, device) for name, path in paths.items()}
        speeds = speed.measure(
            loaded,
            [pair.source for pair in pairs[: settings.sentences]],
            beams=params.evaluate.beams,
            length_penalty=params.evaluate.length_penalty,
            rounds=settings.rounds,
        )
    model_scores = results.scores(scores, params)
    own = [each for each in speeds if each.model in settings.models]
    tables.write(tables.speed_table(own, model_scores), reports, "table2")
    tables.write(tables.ladder_table(certain, speeds), reports, "ladder")
    charts.write_speed(own, model_scores, reports / "plots")
    shown = examples.build(pairs, params, translations=translations, folder=evidence, best=certain.best)
    chosen = [audits / f"{row}.json" for row in params.select]
    html_page.write(reports, Content(certain, shown, chosen, corpus_folder / "about.json"))
