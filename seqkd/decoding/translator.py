"""Text in, hypotheses out: a model's folder at work in one or several one-thread processes."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from seqkd.config.schema import Machine
from seqkd.data.nbest import Hypothesis
from seqkd.decoding import beam_search
from seqkd.decoding.beam_search import BatchSizer
from seqkd.models import checkpoint
from seqkd.models.checkpoint import Model
from seqkd.ops import devices
from seqkd.ops.matmul import Precision
from seqkd.utils import pool
from seqkd.utils.errors import InputError
from seqkd.utils.progress import Progress

CHUNK_SIZE = 250  # sentences of one job: enough for fast products, few enough to share out a test set
GPU_CHUNK_SIZE = 4000  # which has them all to itself


class DecodingJob(NamedTuple):
    """Sentences for one process; only names and text travel, each process loads the model once."""

    model: Path
    machine: Machine
    beam: int
    nbest: int = 1
    length_penalty: float = 0.0
    precision: Precision = "fp32"
    sources: Sequence[str] = ()


@cache
def _load(folder: Path, machine: Machine, precision: Precision) -> Model:
    model = checkpoint.load(folder, devices.configure(machine, precision))
    model.network.freeze()
    return model


@cache
def _budget(rows: int) -> BatchSizer:
    """One a process: what memory does not suffice for is not tried again with the next job."""
    return BatchSizer(rows)


def run(job: DecodingJob) -> list[list[Hypothesis]]:
    """For every source, in order, its hypotheses, best first. Raises InputError where the model gives no numbers."""
    model, budget = _load(job.model, job.machine, job.precision), _budget(job.machine.max_batch_hypotheses)
    sources = [model.vocab.encode(source) for source in job.sources]
    beam, nbest, length_penalty = job.beam, job.nbest, job.length_penalty
    found = beam_search.decode(
        model.network, sources, beam=beam, nbest=nbest, length_penalty=length_penalty, budget=budget
    )
    if not all(found):
        raise InputError(f"{job.model}: its weights are so large that it gives no numbers; train the model anew.")
    return found


def process_count(machine: Machine) -> int:
    """One has it all on a GPU."""
    return 1 if on_gpu(machine) else machine.processes


def chunk_size(machine: Machine) -> int:
    return GPU_CHUNK_SIZE if on_gpu(machine) else CHUNK_SIZE


def on_gpu(machine: Machine) -> bool:
    return devices.configure(machine).type == "cuda"


def best_hypotheses(job: DecodingJob, *, label: str) -> list[Hypothesis]:
    """The best hypothesis of every source, in order, and to the last bit the same with any number of workers.

    Sentences alike in length are dealt together, a chunk at a time and the longest first, so that no process ends late.
    """
    order = sorted(range(len(job.sources)), key=lambda row: (-len(job.sources[row]), row))
    size = chunk_size(job.machine)
    hands = [order[at : at + size] for at in range(0, len(order), size)]
    jobs = [job._replace(sources=[job.sources[row] for row in hand]) for hand in hands]
    found: list[Hypothesis] = [Hypothesis((), 0.0, True)] * len(order)
    answered = pool.map_ordered(run, jobs, processes=process_count(job.machine))
    with Progress(len(order), unit="sentences", label=label) as progress:
        for hand, answers in zip(hands, answered, strict=True):
            for row, answer in zip(hand, answers, strict=True):
                found[row] = answer[0]
            progress.add(len(hand))
    return found
