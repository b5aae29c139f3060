"""Text in, hypotheses out: a model's folder at work in one or several one-thread processes."""

import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from seqkd.config.machine import Machine
from seqkd.data.batches import MAX_LINE_PIECES
from seqkd.data.nbest import Hypothesis
from seqkd.data.vocab import Vocab
from seqkd.decoding import beam_search
from seqkd.decoding.beam_search import BatchSizer
from seqkd.models import checkpoint
from seqkd.models.checkpoint import Model
from seqkd.ops import devices
from seqkd.ops.matmul import Precision
from seqkd.utils import pool
from seqkd.utils.cluster import SharedWork
from seqkd.utils.errors import InputError
from seqkd.utils.progress import Progress

CHUNK_SIZE = 250  # sentences of one job: enough for fast matrix products, few enough to divide a test set
GPU_CHUNK_SIZE = 4000  # sentences of one job on a GPU, where a single process does all of them


class DecodingJob(NamedTuple):
    """Sentences for one process; only paths and text are sent to it, and it loads the model once."""

    model: Path
    machine: Machine
    beam: int
    nbest: int = 1
    length_penalty: float = 0.0
    precision: Precision = "fp32"
    sources: Sequence[str] = ()


def shared(job: DecodingJob) -> SharedWork | None:
    """Return what a cluster's workers need for jobs of a model; None: there is no cluster."""
    cluster = job.machine.workers
    return SharedWork(cluster, [job.model], describe=_described) if cluster else None


def _described(job: DecodingJob) -> str:
    return f"{len(job.sources):,} lines from {job.sources[0]!r} on"


@pool.loaded_once
def _load(folder: Path, device: torch.device, *_packed_for: str) -> Model:
    """Return a frozen model. _packed_for: precision and backend, which may differ in the next job of a worker."""
    model = checkpoint.load(folder, device)
    model.network.freeze()
    return model


@cache
def _batch_sizer(max_rows: int) -> BatchSizer:
    """Return the process's own: a batch too large for memory is not tried again in the next job."""
    return BatchSizer(max_rows)


def run(job: DecodingJob) -> list[list[Hypothesis]]:
    """Return every source's n-best list, in order. Raises InputError where the model gives no numbers."""
    device = devices.configure(job.machine, job.precision)
    model = _load(job.model, device, job.precision, job.machine.matmul_backend)
    results = beam_search.decode(
        model.network,
        [model.vocab.encode(source) for source in job.sources],
        beam=job.beam,
        nbest=job.nbest,
        length_penalty=job.length_penalty,
        batch_sizer=_batch_sizer(job.machine.max_batch_hypotheses),
    )
    if not all(results):
        raise InputError(f"{job.model}: its weights are so large that it gives no numbers; train the model anew.")
    return results


def report_long_lines(sources: Iterable[str], vocab: Vocab, *, where: Path) -> None:
    """Say on stderr how many lines of a text are longer than what a search translates of a line."""
    long = [number for number, text in enumerate(sources, start=1) if vocab.exceeds(text, MAX_LINE_PIECES)]
    if long:
        lines = "1 line has" if len(long) == 1 else f"{len(long):,} lines have"
        said = f"{where}: {lines} more than {MAX_LINE_PIECES:,} pieces, the first is line {long[0]:,}"
        remedy = "only the beginning is translated; break such lines into sentences."
        print(f"{said}: {remedy}", file=sys.stderr, flush=True)


def on_gpu(machine: Machine) -> bool:
    return devices.device_of(machine).type == "cuda"


def process_count(machine: Machine) -> int:
    """Return how many processes decode: one on a GPU, which it keeps busy by itself."""
    return 1 if on_gpu(machine) else machine.processes


def chunk_size(machine: Machine) -> int:
    """Return how many sentences make a job."""
    return GPU_CHUNK_SIZE if on_gpu(machine) else CHUNK_SIZE


def best_hypotheses(job: DecodingJob, *, label: str) -> list[Hypothesis]:
    """Return the best hypothesis of every source, in order; on a CPU the same bits for any number of processes.

    A job holds sentences alike in length, and the longest come first, so that no process ends late.
    """
    order = sorted(range(len(job.sources)), key=lambda row: (-len(job.sources[row]), row))
    size = chunk_size(job.machine)
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    machine = devices.of_workers(job.machine)
    jobs = [job._replace(machine=machine, sources=[job.sources[row] for row in chunk]) for chunk in chunks]
    best: list[Hypothesis] = [Hypothesis((), 0.0, True)] * len(order)
    results = pool.map_ordered(run, jobs, processes=process_count(job.machine), shared=shared(job))
    with Progress(len(order), unit="sentences", label=label) as progress:
        for chunk, nbest_lists in zip(chunks, results, strict=True):
            for row, nbest_list in zip(chunk, nbest_lists, strict=True):
                best[row] = nbest_list[0]
            progress.add(len(chunk))
    return best
