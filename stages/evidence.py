"""evidence: intervals, p-values, where the loss comes from and which faults the translations have."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from seqkd.config import load
from seqkd.data import bitext
from seqkd.decoding.translator import DecodingJob
from seqkd.evaluation import breakdown, evidence, measurements, metrics, outputs, robustness, significance
from seqkd.evaluation import translations as translations_of
from seqkd.evaluation.evidence import Evidence
from seqkd.evaluation.significance import Scorer
from seqkd.models import checkpoint

Models = Annotated[Path, typer.Option(help="The folder of all models.")]
Translations = Annotated[Path, typer.Option(help="The folder of the translations of the test set.")]
Test = Annotated[Path, typer.Option(help="The file of test pairs.")]
Reference = Annotated[Path, typer.Option(help="The file of the human training text.")]
Out = Annotated[Path, typer.Option(help="The folder to write: evidence.json and sentences.csv.")]
WRITES = "{out}"


def main(*, models: Models, translations: Translations, test: Test, reference: Reference, out: Out) -> None:
    """Measure what the translations of the test set show beyond their scores, and what hard lines become."""
    params, machine = load.params(), load.machine()
    pairs, beams = bitext.read(test), sorted(params.evaluate.beams)
    sources, references = [pair.source for pair in pairs], [pair.target for pair in pairs]
    names = [name for name in (*params.models, *params.pruned) if translations_of.exist(translations, name)]
    rows = [(models / name, beam) for name in names for beam in beams]
    translated = [outputs.translated(translations, model, sources, beam=beam) for model, beam in rows]
    scorer = Scorer(references, tokenizer=metrics.tokenizer_name(params.data.target))
    measured = evidence.measure(translated, scorer, processes=machine.processes)
    best = evidence.best_student(params, measured)
    students = [name for name in (*params.networks, *params.pruned) if params.role(name) == "student"]
    baselines = {name: params.baseline_of(name) for name in students}
    hard = robustness.hard_lines(params.data.source)
    job = DecodingJob(models, machine, beams[0], length_penalty=params.evaluate.length_penalty)
    hard_job = job._replace(sources=[line.text for line in hard])
    own = [(model, beam) for model, beam in rows if model.name not in params.external]
    jobs = [hard_job._replace(model=model, beam=beam) for model, beam in own if hard]
    with TemporaryDirectory() as folder:
        smallest = evidence.smallest_model(params, best)
        int8 = outputs.export_int8(models / smallest, Path(folder))
        *hard_outputs, int8_output = outputs.decode([*jobs, job._replace(model=int8, sources=sources)], machine)
        sizes = {model.name: checkpoint.weights_size(model) for model in (int8, *(model for model, _ in own))}
    measured[int8.name] = evidence.measure([int8_output], scorer, processes=1)[int8.name]
    result = Evidence(
        lines=len(pairs),
        resamples=significance.RESAMPLES,
        seed=significance.SEED,
        best=best,
        certainty=evidence.certainties(measured, best, teacher=params.main_teacher, baselines=baselines),
        kinds=evidence.kind_scores(
            breakdown.kinds(sources, (pair.source for pair in bitext.stream(reference))), measured, scorer
        ),
        faults=evidence.fault_counts(translated, sources, references),
        hard_lines=evidence.hard_results(hard, hard_outputs, scripts=robustness.common_scripts(references)),
        ladder=evidence.ladder(evidence.rungs(params, best, int8.name), measured, sizes),
    )
    measurements.write(out / evidence.RECORD, result)
    evidence.write_sentences(out / evidence.SENTENCES, pairs, measured)
