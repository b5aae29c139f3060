"""What would a perfect model score?

python -m benchmarks.ceiling CORPUS ... --source en --target de

Encodes and decodes every target line of each corpus, which is anything that data.corpus of params.yaml may name, and
compares the result with the line. Ends with 1 where a line does not come back.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from tabulate import tabulate

from seqkd.config import schema
from seqkd.corpora import prepare
from seqkd.corpora.prepare import Prepared
from seqkd.data import vocab
from seqkd.data.normalization import normalize
from seqkd.data.vocab import Vocab
from seqkd.evaluation import metrics
from seqkd.utils.errors import InputError

Corpora = Annotated[list[str], typer.Argument(help="Recipes, folders or tab-separated files.")]
Language = Annotated[str, typer.Option(help="The language's code, as the corpus writes it.")]
Size = Annotated[int, typer.Option(help="Pieces of the vocabulary that is learnt from a corpus's train.")]
Vocabulary = Annotated[Path | None, typer.Option(help="A sentencepiece model to use instead.")]
Downloads = Annotated[Path, typer.Option(help="The folder of downloaded corpora.")]
HEADERS = ("corpus", "part", "lines", "BLEU", "lost lines", "pieces a line", "signature of BLEU")


def main(
    corpora: Corpora,
    *,
    source: Language = "en",
    target: Language = "de",
    size: Size = 2000,
    vocabulary: Vocabulary = None,
    downloads: Downloads = Path(".dvc/tmp/downloads"),
) -> None:
    """Print the ceiling of every part of every corpus."""
    rows = []
    for corpus in corpora:
        data = schema.DataSettings(corpus=corpus, source=source, target=target, max_length=1, tidy=False)
        parts = prepare.prepare(data, seed=17, downloads=downloads)
        pieces = vocab.load(vocabulary) if vocabulary else learnt(parts, size)
        for part in ("train", "dev", "test"):
            lines = [normalize(pair.target) for pair in getattr(parts, part)]
            rows.append((Path(corpus).name, part, *ceiling(lines, pieces, tokenizer=metrics.tokenizer_name(target))))
    print(tabulate(rows, headers=HEADERS, floatfmt=("", "", "", ".2f", "", ".1f")))
    sys.exit(any(row[4] for row in rows))


def learnt(parts: Prepared, size: int) -> Vocab:
    """Return the vocabulary that the stage vocab would learn with its default settings."""
    settings = schema.VocabSettings(size=size)
    sides = vocab.sample((side for pair in parts.train for side in pair[1:]), most=settings.max_sentences)
    with TemporaryDirectory() as folder:
        options = settings.model_dump(exclude={"teacher", "max_sentences"})
        return vocab.train(sides, Path(folder, "joint.model"), **options)


def ceiling(lines: list[str], pieces: Vocab, *, tokenizer: str) -> tuple[int, float, int, float, str]:
    """Return the columns of HEADERS from lines on."""
    ids = pieces.encode_all(lines)
    decoded = pieces.decode_all(ids, lines)
    lost = sum(text != line for text, line in zip(decoded, lines, strict=True))
    score = metrics.bleu(decoded, lines, tokenizer=tokenizer)
    return len(lines), score.value, lost, sum(map(len, ids)) / len(ids), score.signature


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(str(error))
