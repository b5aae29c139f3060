"""evaluate: a model's translations of the test set, their scores, and the model's size."""

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from seqkd import batches, checkpoint, config, corpus, hardware, likelihood, scores, translator

Source = Annotated[Path, typer.Option("--model", help="The model's folder.")]
Test = Annotated[Path, typer.Option(help="The test pairs.")]
Translations = Annotated[Path, typer.Option(help="The folder of the translations, a sentence a line for each beam.")]
Out = Annotated[Path, typer.Option(help="The scores to write.")]


def main(*, model: Source, test: Test, translations: Translations, out: Out) -> None:
    """Translate and score the test set at every beam of params.yaml."""
    settings, machine = config.params().evaluate, config.machine()
    pairs, loaded = corpus.read(test), checkpoint.load(model, hardware.settle(machine))
    gold = [pair.target for pair in pairs]
    parameters = sum(parameter.numel() for parameter in loaded.network.parameters())
    record = {
        "model": model.name,
        "parameters": parameters,
        "remaining": parameters if loaded.mask is None else int(loaded.mask.sum()),
        "bytes": checkpoint.size(model),
        "perplexity": likelihood.perplexity(loaded.network, batches.read(test, loaded.vocab)),
    }
    beams = {}
    for beam in sorted(settings.beams):
        sources = [pair.source for pair in pairs]
        best = translator.best(model, sources, beam=beam, machine=machine, normalise=settings.normalise)
        texts = [loaded.vocab.decode(hypothesis.ids) for hypothesis in best]
        with corpus.replacing(translations / f"beam{beam}.txt") as file:
            file.writelines(f"{text}\n" for text in texts)
        bleu, chrf, ratio = scores.bleu(texts, gold), scores.chrf(texts, gold), scores.length_ratio(texts, gold)
        beams[str(beam)] = {"bleu": bleu.value, "chrf": chrf.value, "length_ratio": ratio}
        record |= {"signature_bleu": bleu.signature, "signature_chrf": chrf.signature}
        record["mode_probability"] = sum(math.exp(hypothesis.logprob) for hypothesis in best) / len(best)  # widest beam
        print(f"{model.name}, beam {beam}: BLEU {bleu.value:.2f}, chrF {chrf.value:.2f}")
    with corpus.replacing(out) as file:
        json.dump(record | {"beams": beams}, file, indent=2, sort_keys=True)
        file.write("\n")
