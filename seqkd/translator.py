"""Text in, hypotheses out: a model's folder at work in one or several one-thread processes."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from seqkd import checkpoint, hardware, search, workers
from seqkd.checkpoint import Model
from seqkd.config import Machine
from seqkd.errors import InputError
from seqkd.nbest import Hypothesis
from seqkd.products import Precision
from seqkd.progress import Progress
from seqkd.search import Budget

CHUNK = 250  # sentences of one job: enough for fast products, few enough to share out a test set
CHUNK_ON_GPU = 4000  # which has them all to itself


class Job(NamedTuple):
    """Sentences for one process; only names and text travel, each process loads the model once."""

    model: Path
    machine: Machine
    beam: int
    nbest: int = 1
    normalise: float = 0.0
    precision: Precision = "fp32"
    sources: Sequence[str] = ()


@cache
def _load(folder: Path, machine: Machine, precision: Precision) -> Model:
    model = checkpoint.load(folder, hardware.settle(machine, precision))
    model.network.fix()
    return model


@cache
def _budget(rows: int) -> Budget:
    """One a process: what memory does not suffice for is not tried again with the next job."""
    return Budget(rows)


def run(job: Job) -> list[list[Hypothesis]]:
    """For every source, in order, its hypotheses, best first. Raises InputError where the model gives no numbers."""
    model, budget = _load(job.model, job.machine, job.precision), _budget(job.machine.rows)
    sources = [model.vocab.encode(source) for source in job.sources]
    beam, nbest, normalise = job.beam, job.nbest, job.normalise
    found = search.decode(model.network, sources, beam=beam, nbest=nbest, normalise=normalise, budget=budget)
    if not all(found):
        raise InputError(f"{job.model}: its weights are so large that it gives no numbers; train the model anew.")
    return found


def processes(machine: Machine) -> int:
    """One has it all on a GPU."""
    return 1 if on_gpu(machine) else machine.workers


def chunk(machine: Machine) -> int:
    return CHUNK_ON_GPU if on_gpu(machine) else CHUNK


def on_gpu(machine: Machine) -> bool:
    return hardware.settle(machine).type == "cuda"


def best(job: Job, *, label: str) -> list[Hypothesis]:
    """The best hypothesis of every source, in order, and to the last bit the same with any number of workers.

    Sentences alike in length are dealt together, a chunk at a time and the longest first, so that no process ends late.
    """
    order = sorted(range(len(job.sources)), key=lambda row: (-len(job.sources[row]), row))
    size = chunk(job.machine)
    hands = [order[at : at + size] for at in range(0, len(order), size)]
    jobs = [job._replace(sources=[job.sources[row] for row in hand]) for hand in hands]
    found: list[Hypothesis] = [Hypothesis((), 0.0, True)] * len(order)
    answered = workers.ordered(run, jobs, processes=processes(job.machine))
    with Progress(len(order), unit="sentences", label=label) as progress:
        for hand, answers in zip(hands, answered, strict=True):
            for row, answer in zip(hand, answers, strict=True):
                found[row] = answer[0]
            progress.add(len(hand))
    return found
