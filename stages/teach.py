"""teach: an external teacher's translations of every training source, and of the test set."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load, schema
from seqkd.config.teachers import ModelTeacher, TrainedTeacher
from seqkd.corpora import monolingual
from seqkd.data import text_lists
from seqkd.decoding import corpus_decoder
from seqkd.teachers import translate, vocabulary
from seqkd.teachers.translate import Request
from seqkd.utils import atomic
from seqkd.utils.progress import Progress

Row = Annotated[str, typer.Argument(parser=schema.row_name, help="A row of teachers in params.yaml.")]
Text = Annotated[Path, typer.Option(help="The pairs whose sources are translated.")]
Test = Annotated[Path, typer.Option(help="The file of test pairs.")]
Out = Annotated[Path, typer.Option(help="The folder of external lists; the teacher's is a folder in it.")]
WRITES = "{out}/{row}"


def main(row: Row, *, text: Text, test: Test, out: Out) -> None:
    """Get the lists of each row of decode that names the teacher; lines that it translated before are kept."""
    params, machine = load.params(), load.machine()
    teacher = schema.row(params.teachers, row, section="teachers")
    requests: dict[str, Request] = {}
    if not isinstance(teacher, TrainedTeacher):
        rows = {name: each for name, each in params.decode.items() if each.teacher == row}
        file = monolingual.file(params.data)
        requests = translate.requests(row, teacher, rows, machine=machine, text=text, test=test, lines=file)
    pieces = None
    if params.vocab.teacher == row and isinstance(teacher, ModelTeacher):
        pieces = vocabulary.of_teacher(row, teacher, params.vocab)
    with atomic.atomic_write(out / row) as folder:
        folder.mkdir()
        if pieces is not None:
            (folder / text_lists.VOCAB).write_bytes(pieces.model)
        for name, request in requests.items():
            cache = translate.open_cache(request)
            lines, new = corpus_decoder.count(cache, request.text)
            with Progress(lines, unit="sentences", label=f"teach {row}, {name}", done=lines - new) as progress:
                for count in translate.translate_missing(cache, request):
                    progress.add(count)
            translate.write(cache, request, folder / name)
            kept = corpus_decoder.cache_summary(cache)
            print(f"{out / row / name}: {lines:,} lines, {lines - new:,} of them translated before; {kept}")
