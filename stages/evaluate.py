"""evaluate: a model's translations of the test set, their scores, and the model's size."""

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import schema
from seqkd.data import batches, bitext
from seqkd.decoding import translator
from seqkd.decoding.translator import DecodingJob
from seqkd.evaluation import metrics
from seqkd.models import checkpoint, perplexity
from seqkd.ops import devices
from seqkd.utils import atomic

Row = Annotated[str, typer.Argument(parser=schema.row_name, help="The model, or what stands behind the prefix.")]
Prefix = Annotated[str, typer.Option(help="What the model's name begins with.")]
Models = Annotated[Path, typer.Option(help="The folder of the models.")]
Test = Annotated[Path, typer.Option(help="The test pairs.")]
Translations = Annotated[Path, typer.Option(help="The folder of the translations, each model's a folder in it.")]
Out = Annotated[Path, typer.Option(help="The folder of the scores.")]
WRITES = "{out}/{prefix}{row}"


def main(row: Row, *, prefix: Prefix = "", models: Models, test: Test, translations: Translations, out: Out) -> None:
    """Translate and score the test set at every beam of params.yaml."""
    params, machine = schema.load_params(), schema.load_machine()
    known = {name: models / name for name in (*params.models, *params.pruned)}
    settings, model = params.evaluate, schema.row(known, prefix + row, section="the pipeline")
    pairs, loaded = bitext.read(test), checkpoint.load(model, devices.configure(machine))
    gold = [pair.target for pair in pairs]
    parameters = sum(parameter.numel() for parameter in loaded.network.parameters())
    record = {
        "model": model.name,
        "parameters": parameters,
        "remaining": parameters if loaded.mask is None else int(loaded.mask.sum()),
        "bytes": checkpoint.weights_size(model),
        "perplexity": perplexity.perplexity(loaded.network, batches.tokenize(test, loaded.vocab)),
    }
    beams = {}
    for beam in sorted(settings.beams):
        sources = [pair.source for pair in pairs]
        job = DecodingJob(model, machine, beam, length_penalty=settings.length_penalty, sources=sources)
        best = translator.best_hypotheses(job, label=f"{model.name}, beam {beam}")
        texts = loaded.vocab.decode_all([hypothesis.ids for hypothesis in best])
        with atomic.open_text(translations / model.name / f"beam{beam}.txt") as file:
            file.writelines(f"{text}\n" for text in texts)
        bleu, chrf, ratio = metrics.bleu(texts, gold), metrics.chrf(texts, gold), metrics.length_ratio(texts, gold)
        beams[str(beam)] = {"bleu": bleu.value, "chrf": chrf.value, "length_ratio": ratio}
        record |= {"signature_bleu": bleu.signature, "signature_chrf": chrf.signature}
        record["mode_probability"] = sum(math.exp(hypothesis.logprob) for hypothesis in best) / len(best)  # widest beam
        print(f"{model.name}, beam {beam}: BLEU {bleu.value:.2f}, chrF {chrf.value:.2f}")
    with atomic.open_text(out / f"{model.name}.json") as file:
        json.dump(record | {"beams": beams}, file, indent=2, sort_keys=True)
        file.write("\n")
