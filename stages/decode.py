"""decode: the teacher's n-best list for every training source."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load, schema
from seqkd.data import bitext
from seqkd.decoding import corpus_decoder, translator
from seqkd.decoding.translator import DecodingJob
from seqkd.models import checkpoint
from seqkd.ops import devices
from seqkd.planning import bounds
from seqkd.teachers import encode
from seqkd.utils.progress import Progress

Row = Annotated[str, typer.Argument(parser=schema.row_name, help="A row of decode in params.yaml.")]
Teacher = Annotated[Path, typer.Option(help="The teacher's folder.")]
External = Annotated[Path, typer.Option(help="The folder of external teachers' lists.")]
Text = Annotated[Path, typer.Option(help="The pairs whose sources are decoded.")]
Out = Annotated[Path, typer.Option(help="The folder of the n-best lists; the row's list is a folder in it.")]
WRITES = "{out}/{row}"


def main(row: Row, *, teacher: Teacher, external: External = Path("data/external"), text: Text, out: Out) -> None:
    """Decode a text by beam search; lines that this teacher decoded before, for any text, are not decoded again.

    An external teacher's list is there already: it is written in the pieces of the vocabulary.
    """
    params, machine = load.params(), load.machine()
    settings = schema.row(params.decode, row, section="decode")
    if owners := params.owners(row):
        lists = {name: external / name / each for each, name in owners.items()}
        vocabulary, processes = teacher / checkpoint.VOCAB, machine.processes
        origin = encode.write(lists, text, out / row, vocabulary=vocabulary, most=settings.beam, processes=processes)
        print(f"{out / row}: {encode.describe(origin)}")
        return
    assert settings.beam is not None, "load.params has checked it"
    precision = devices.choose_precision(machine, params.precision)  # no auto in the cache's key
    job = DecodingJob(teacher, machine, settings.beam, settings.beam, settings.length_penalty, precision)
    cache = corpus_decoder.open_cache(job)
    which = {"monolingual": settings.monolingual}
    lines, new = corpus_decoder.count(cache, text, **which)
    sources, folder = (pair.source for pair in bitext.stream(text, **which)), cache.path.parent
    network, vocab, _ = checkpoint.load(teacher)
    translator.report_long_lines((pair.source for pair in bitext.stream(text, **which)), vocab, where=text)
    bounds.require_decoding(f"decode {row}", job, network, sources=sources, lines_left=new, cache_folder=folder)
    with Progress(lines, unit="sentences", label=f"decode {row}", done=lines - new) as progress:
        for count in corpus_decoder.decode_missing(cache, text, job, **which):
            progress.add(count)
    corpus_decoder.write(cache, text, out / row, processes=machine.processes, **which)
    print(
        f"{out / row}: {lines:,} lines, {lines - new:,} of them decoded before; {corpus_decoder.cache_summary(cache)}"
    )
