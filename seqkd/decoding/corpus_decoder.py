"""The n-best list of a whole text: each line's from the cache or, where it has none yet, from beam search.

Neither the text nor its n-best lists are ever held whole. Lines without a list are decoded in the order of the text,
CHUNK_SIZE distinct sources at a time, and a chunk's lists are added to the cache together.

A list has the same bits whatever else was decoded with it, by any number of processes: no product, sum or choice of a
beam search reaches from one sentence to another. So a text whose lines were partly decoded for another one, or by a run
that was killed, ends as one decoded from nothing. torch's own products make no such promise (`matmul_backend: torch` in
machine.yaml, and a GPU's): there the last digits of a score may depend on its neighbours, and so a resumed run decodes
the same chunks as an undisturbed one. The settings in machine.yaml are not part of the cache's key.
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
from seqkd.ops import devices
from seqkd.utils import atomic, cache_dir, fingerprint, pool

CHUNK_SIZE = 250  # distinct sources decoded and cached together; a killed run loses at most so many lists a process
CACHE_NAME = "decoded"  # beside the state of interrupted work; delete the folder to forget every list


def open_cache(job: DecodingJob) -> NbestCache:
    """Open the cache of this teacher, search and precision, whatever text or student the lists were made for."""
    search = f"beam {job.beam}, nbest {job.nbest}, length_penalty {job.length_penalty}, {job.precision}"
    model = [job.model / name for name in (checkpoint.WEIGHTS, checkpoint.SHAPE, checkpoint.VOCAB)]
    return nbest_cache.open_cache(cache_dir.path(cache_dir.key(search, fingerprint.of(__name__), *model), CACHE_NAME))


def cache_summary(cache: NbestCache) -> str:
    """Say where the n-best lists are kept, how much space they take, and how to get it back."""
    folder = cache.path.parent.parent
    total = sum(path.stat().st_size for path in folder.glob("*/*") if path.is_file())
    sizes = f"{cache.path.stat().st_size / 1e6:,.1f} of {total / 1e6:,.1f} MB"
    return f"its lists are kept ({sizes} in {folder}; delete the folder to forget all)"


def parts(text: Path, *, monolingual: bool = True) -> Iterator[list[Pair]]:
    """Yield the pairs of a text, as many at a time as stand in a part of an n-best list.

    monolingual, here and below: whether the list has the lines without a target, too.
    """
    return nbest.chunks(bitext.stream(text, monolingual=monolingual))


def count(cache: NbestCache, text: Path, *, monolingual: bool = True) -> tuple[int, int]:
    """Return the number of lines of a text, and how many of them have no list yet."""
    lines = without = 0
    for part in parts(text, monolingual=monolingual):
        absent = set(cache.missing(pair.source for pair in part).values())
        lines, without = lines + len(part), without + sum(pair.source in absent for pair in part)
    return lines, without


def missing(cache: NbestCache, text: Path, *, monolingual: bool = True) -> Iterator[list[str]]:
    """Yield the sources without a list in chunks, each source once; when lists are added does not change the chunks."""
    pending: dict[bytes, str] = {}  # yielded or about to be, and not in the cache when last seen
    chunk: list[str] = []
    for part in parts(text, monolingual=monolingual):
        absent = cache.missing(pair.source for pair in part)
        chunk += [source for key, source in absent.items() if key not in pending]
        pending = cache.missing((pending | absent).values())
        while len(chunk) >= CHUNK_SIZE:
            yield chunk[:CHUNK_SIZE]
            del chunk[:CHUNK_SIZE]
    if chunk:
        yield chunk


def decode_missing(cache: NbestCache, text: Path, job: DecodingJob, *, monolingual: bool = True) -> Iterator[int]:
    """Decode the sources without a list, and yield the number of each chunk's; job: all but the sources."""
    machine = devices.of_workers(job.machine)
    chunks = missing(cache, text, monolingual=monolingual)
    jobs = (job._replace(machine=machine, sources=chunk) for chunk in chunks)
    processes, shared = translator.process_count(job.machine), translator.shared(job)
    for entries in pool.map_ordered(_decode, jobs, processes=processes, shared=shared):
        cache.add(entries)
        yield len(entries)


def _decode(job: DecodingJob) -> list[Entry]:
    results = zip(job.sources, translator.run(job), strict=True)
    return [nbest_cache.entry(source, nbest_list) for source, nbest_list in results]


def write(cache: NbestCache, text: Path, out: Path, *, processes: int, monolingual: bool = True) -> None:
    """Write the n-best list of a text all of whose lines have one, as a folder, atomically."""
    with atomic.atomic_write(out) as folder:
        folder.mkdir()
        every = enumerate(parts(text, monolingual=monolingual))
        for _ in pool.map_ordered(partial(_write_part, cache, folder), every, processes=processes):
            pass


def _write_part(cache: NbestCache, folder: Path, part: tuple[int, list[Pair]]) -> None:
    index, pairs = part
    nbest.write_part(folder, index, zip(pairs, cache.lists([pair.source for pair in pairs]), strict=True))
