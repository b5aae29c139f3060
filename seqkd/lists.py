"""The n-best list of a whole text, line by line from the archive and, where a line is new, from the teacher.

Neither the text nor its lists are ever held whole. Lines without a list are decoded in the order of the text, GROUP
different sources at a time, and a group's lists are kept together.

A list has the same bits whatever else was decoded with it, by whichever number of workers: no product, sum or choice of
a search reaches from one sentence to another. So a text whose lines were partly decoded for another one, or by a run
that was killed, ends as one decoded from nothing. Only torch's own products make no such promise (`products: torch` in
machine.yaml, and a GPU's): there the last digits of a score may depend on its neighbours, and so the groups of a run
taken up again are those of an undisturbed one. What machine.yaml says is not part of what a list is kept under.
"""

import ast
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from seqkd import archive, checkpoint, corpus, nbest, resume, translator, whole, workers
from seqkd.archive import Archive, Entry
from seqkd.corpus import Pair
from seqkd.translator import Job

GROUP = 250  # different sources decoded and kept together; at most so many lists are lost
ROOM = "decoded"  # beside the state of interrupted work; delete the folder to forget every list
CODE = (  # the modules that can change a list
    *("archive", "batches", "board", "checkpoint", "cuda", "fused", "graphed", "hardware", "kernels", "lists", "loops"),
    *("model", "nbest", "pointwise", "products", "recurrence", "search", "softmax", "tiles", "translator", "vocab"),
)


def kept(job: Job) -> Archive:
    """Where the lists of this teacher, search and precision are, by whichever text or student they were made for."""
    search = f"beam {job.beam}, nbest {job.nbest}, normalise {job.normalise}, {job.precision}"
    model = [job.model / name for name in (checkpoint.WEIGHTS, checkpoint.SHAPE, checkpoint.VOCAB)]
    return archive.find(resume.folder(resume.digest(search, code(), *model), ROOM))


def account(lists: Archive) -> str:
    """In words: where lists are kept, how much room they take, and how to get it back."""
    room = lists.path.parent.parent
    whole = sum(path.stat().st_size for path in room.glob("*/*") if path.is_file())
    own = lists.path.stat().st_size
    return f"its lists are kept ({own / 1e6:,.1f} of {whole / 1e6:,.1f} MB in {room}; delete the folder to forget all)"


def code(folder: Path = Path(__file__).parent) -> str:
    """What the modules say that can change a list, without their comments and docstrings."""
    trees = [ast.parse((folder / f"{name}.py").read_text(encoding="utf-8")) for name in CODE]
    for node in [node for tree in trees for node in ast.walk(tree)]:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return "\n".join(map(ast.unparse, trees))


def parts(text: Path) -> Iterator[list[Pair]]:
    """The pairs of a text, as many at a time as stand in a part of an n-best list."""
    return nbest.chunks(corpus.stream(text))


def count(lists: Archive, text: Path) -> tuple[int, int]:
    """The lines of a text, and how many of them have no list yet."""
    lines = without = 0
    for part in parts(text):
        absent = set(lists.missing(pair.source for pair in part).values())
        lines, without = lines + len(part), without + sum(pair.source in absent for pair in part)
    return lines, without


def missing(lists: Archive, text: Path) -> Iterator[list[str]]:
    """The sources without a list, each once, in groups; the same ones whenever those handed out before are added."""
    given: dict[bytes, str] = {}  # handed out or about to be, and not added when last seen
    group: list[str] = []
    for part in parts(text):
        found = lists.missing(pair.source for pair in part)
        group += [source for name, source in found.items() if name not in given]
        given = lists.missing((given | found).values())
        while len(group) >= GROUP:
            yield group[:GROUP]
            del group[:GROUP]
    if group:
        yield group


def fill(lists: Archive, text: Path, job: Job) -> Iterator[int]:
    """Decodes what is missing, group by group; how many sources each had. job: all but the sources."""
    jobs = (job._replace(sources=group) for group in missing(lists, text))
    for entries in workers.ordered(_decoded, jobs, processes=translator.processes(job.machine)):
        lists.add(entries)
        yield len(entries)


def _decoded(job: Job) -> list[Entry]:
    return [archive.entry(source, found) for source, found in zip(job.sources, translator.run(job), strict=True)]


def write(lists: Archive, text: Path, out: Path, *, processes: int) -> None:
    """The n-best list of a text all of whose lines have one; the folder appears whole or not at all."""
    with whole.replacing(out) as folder:
        folder.mkdir()
        for _ in workers.ordered(partial(_write, lists, folder), enumerate(parts(text)), processes=processes):
            pass


def _write(lists: Archive, folder: Path, part: tuple[int, list[Pair]]) -> None:
    index, pairs = part
    nbest.write_part(folder, index, zip(pairs, lists.lists([pair.source for pair in pairs]), strict=True))
