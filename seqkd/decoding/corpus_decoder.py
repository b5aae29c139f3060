"""The n-best list of a whole text, line by line from the archive and, where a line is new, from the teacher.

Neither the text nor its lists are ever held whole. Lines without a list are decoded in the order of the text, GROUP
different sources at a time, and a group's lists are kept together.

A list has the same bits whatever else was decoded with it, by whichever number of workers: no product, sum or choice of
a search reaches from one sentence to another. So a text whose lines were partly decoded for another one, or by a run
that was killed, ends as one decoded from nothing. torch's own products make no such promise (`matmul_backend: torch` in
machine.yaml, and a GPU's): there the last digits of a score may depend on its neighbours, and so the groups of a run
taken up again are those of an undisturbed one. What machine.yaml says is not part of what a list is kept under.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from seqkd.data import bitext, nbest
from seqkd.data.bitext import Pair
from seqkd.decoding import nbest_cache, translator
from seqkd.decoding.nbest_cache import Entry, NbestCache
from seqkd.decoding.translator import DecodingJob
from seqkd.models import checkpoint
from seqkd.utils import atomic, cache_dir, fingerprint, pool

CHUNK_SIZE = 250  # different sources decoded and kept together; at most so many lists are lost
CACHE_NAME = "decoded"  # beside the state of interrupted work; delete the folder to forget every list


def open_cache(job: DecodingJob) -> NbestCache:
    """Where the lists of this teacher, search and precision are, by whichever text or student they were made for."""
    search = f"beam {job.beam}, nbest {job.nbest}, length_penalty {job.length_penalty}, {job.precision}"
    model = [job.model / name for name in (checkpoint.WEIGHTS, checkpoint.SHAPE, checkpoint.VOCAB)]
    return nbest_cache.open_cache(cache_dir.path(cache_dir.key(search, fingerprint.of(__name__), *model), CACHE_NAME))


def cache_summary(lists: NbestCache) -> str:
    """In words: where lists are kept, how much room they take, and how to get it back."""
    room = lists.path.parent.parent
    whole = sum(path.stat().st_size for path in room.glob("*/*") if path.is_file())
    own = lists.path.stat().st_size
    return f"its lists are kept ({own / 1e6:,.1f} of {whole / 1e6:,.1f} MB in {room}; delete the folder to forget all)"


def parts(text: Path) -> Iterator[list[Pair]]:
    """The pairs of a text, as many at a time as stand in a part of an n-best list."""
    return nbest.chunks(bitext.stream(text))


def count(lists: NbestCache, text: Path) -> tuple[int, int]:
    """The lines of a text, and how many of them have no list yet."""
    lines = without = 0
    for part in parts(text):
        absent = set(lists.missing(pair.source for pair in part).values())
        lines, without = lines + len(part), without + sum(pair.source in absent for pair in part)
    return lines, without


def missing(lists: NbestCache, text: Path) -> Iterator[list[str]]:
    """The sources without a list, each once, in groups; the same ones whenever those handed out before are added."""
    given: dict[bytes, str] = {}  # handed out or about to be, and not added when last seen
    group: list[str] = []
    for part in parts(text):
        found = lists.missing(pair.source for pair in part)
        group += [source for name, source in found.items() if name not in given]
        given = lists.missing((given | found).values())
        while len(group) >= CHUNK_SIZE:
            yield group[:CHUNK_SIZE]
            del group[:CHUNK_SIZE]
    if group:
        yield group


def decode_missing(lists: NbestCache, text: Path, job: DecodingJob) -> Iterator[int]:
    """Decodes what is missing, group by group; how many sources each had. job: all but the sources."""
    jobs = (job._replace(sources=group) for group in missing(lists, text))
    for entries in pool.map_ordered(_decoded, jobs, processes=translator.process_count(job.machine)):
        lists.add(entries)
        yield len(entries)


def _decoded(job: DecodingJob) -> list[Entry]:
    return [nbest_cache.entry(source, found) for source, found in zip(job.sources, translator.run(job), strict=True)]


def write(lists: NbestCache, text: Path, out: Path, *, processes: int) -> None:
    """The n-best list of a text all of whose lines have one; the folder appears whole or not at all."""
    with atomic.atomic_write(out) as folder:
        folder.mkdir()
        for _ in pool.map_ordered(partial(_write, lists, folder), enumerate(parts(text)), processes=processes):
            pass


def _write(lists: NbestCache, folder: Path, part: tuple[int, list[Pair]]) -> None:
    index, pairs = part
    nbest.write_part(folder, index, zip(pairs, lists.lists([pair.source for pair in pairs]), strict=True))
