"""score: an external teacher's translations of the test set, and their scores."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load, schema
from seqkd.data import bitext, text_lists
from seqkd.evaluation import measurements, metrics
from seqkd.evaluation.measurements import BeamScores, ModelScores
from seqkd.utils import atomic

Row = Annotated[str, typer.Argument(parser=schema.row_name, help="A row of teachers in params.yaml.")]
External = Annotated[Path, typer.Option(help="The folder of external teachers' lists.")]
Test = Annotated[Path, typer.Option(help="The file of test pairs.")]
Translations = Annotated[Path, typer.Option(help="The folder of translations; each model has a folder in it.")]
Out = Annotated[Path, typer.Option(help="The folder of scores; the teacher's file is written there.")]
WRITES = "{out}/{row}"


def main(row: Row, *, external: External, test: Test, translations: Translations, out: Out) -> None:
    """Score the teacher's one translation of each test line; it counts for every beam size of params.yaml."""
    params, lists = load.params(), external / row / text_lists.TEST
    tokenizer = metrics.tokenizer_name(params.data.target)
    scores = ModelScores(model=row)
    with atomic.atomic_write(translations / row) as folder:
        folder.mkdir()
        if lists.exists():
            texts, references = list(text_lists.best(lists, test)), [pair.target for pair in bitext.read(test)]
            bleu, chrf = metrics.bleu(texts, references, tokenizer=tokenizer), metrics.chrf(texts, references)
            ratio = metrics.length_ratio(texts, references, tokenizer=tokenizer)
            own = BeamScores(bleu=bleu.value, chrf=chrf.value, length_ratio=ratio)
            beams = {str(beam): own for beam in sorted(params.evaluate.beams)}
            scores = ModelScores(model=row, beams=beams, signature_bleu=bleu.signature, signature_chrf=chrf.signature)
            for beam in beams:
                with atomic.open_text(folder / f"beam{beam}.txt") as file:
                    file.writelines(f"{text}\n" for text in texts)
            print(f"{row}: BLEU {bleu.value:.2f}, chrF {chrf.value:.2f}")
    measurements.write(out / f"{row}.json", scores)
