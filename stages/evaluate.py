"""evaluate: a model's translations of the test set, their scores, and the model's size."""

import math
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load, schema
from seqkd.data import batches, bitext
from seqkd.decoding import translator
from seqkd.decoding.translator import DecodingJob
from seqkd.evaluation import measurements, metrics
from seqkd.evaluation.measurements import BeamScores, ModelScores
from seqkd.models import checkpoint, perplexity
from seqkd.ops import devices
from seqkd.planning import bounds
from seqkd.utils import atomic

Row = Annotated[str, typer.Argument(parser=schema.row_name, help="The model's name, without the prefix.")]
Prefix = Annotated[str, typer.Option(help="The beginning of the model's name.")]
Models = Annotated[Path, typer.Option(help="The folder of all models.")]
Test = Annotated[Path, typer.Option(help="The file of test pairs.")]
Translations = Annotated[Path, typer.Option(help="The folder of translations; each model has a folder in it.")]
Out = Annotated[Path, typer.Option(help="The folder of scores; the model's file is written there.")]
WRITES = "{out}/{prefix}{row}"


def main(row: Row, *, prefix: Prefix = "", models: Models, test: Test, translations: Translations, out: Out) -> None:
    """Translate the test set at every beam size of params.yaml and score the translations."""
    params, machine = load.params(), load.machine()
    folders = {name: models / name for name in ("teacher", *params.networks, *params.pruned)}
    settings, folder = params.evaluate, schema.row(folders, prefix + row, section="the pipeline")
    if not checkpoint.has_network(folder):  # it was not trained, so nothing is known of it
        with atomic.atomic_write(translations / folder.name) as partial:
            partial.mkdir()
        measurements.write(out / f"{folder.name}.json", ModelScores(model=folder.name))
        return
    pairs, model = bitext.read(test), checkpoint.load(folder, devices.configure(machine))
    sources, references = [pair.source for pair in pairs], [pair.target for pair in pairs]
    translator.report_long_lines(sources, model.vocab, where=test)
    text, tokenizer = batches.tokenize(test, model.vocab), metrics.tokenizer_name(params.data.target)
    job = DecodingJob(folder, machine, max(settings.beams), length_penalty=settings.length_penalty, sources=sources)
    bounds.require_evaluation(job, model.network, text)
    beams, test_perplexity = {}, perplexity.perplexity(model.network, text)
    for beam in sorted(settings.beams):
        best = translator.best_hypotheses(job._replace(beam=beam), label=f"{folder.name}, beam {beam}")
        texts = model.vocab.decode_all([hypothesis.ids for hypothesis in best], sources)
        with atomic.open_text(translations / folder.name / f"beam{beam}.txt") as file:
            file.writelines(f"{text}\n" for text in texts)
        bleu, chrf = metrics.bleu(texts, references, tokenizer=tokenizer), metrics.chrf(texts, references)
        ratio = metrics.length_ratio(texts, references, tokenizer=tokenizer)
        beams[str(beam)] = BeamScores(bleu=bleu.value, chrf=chrf.value, length_ratio=ratio)
        print(f"{folder.name}, beam {beam}: BLEU {bleu.value:.2f}, chrF {chrf.value:.2f}")
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    scores = ModelScores(
        model=folder.name,
        parameters=parameters,
        remaining=parameters if model.mask is None else int(model.mask.sum()),
        bytes=checkpoint.weights_size(folder),
        perplexity=test_perplexity,
        mode_probability=sum(math.exp(hypothesis.logprob) for hypothesis in best) / len(best),  # the largest beam size
        signature_bleu=bleu.signature,
        signature_chrf=chrf.signature,
        beams=beams,
    )
    measurements.write(out / f"{folder.name}.json", scores)
