"""Text in, hypotheses out: a model's folder at work in one or several one-thread processes."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from seqkd import checkpoint, hardware, search, workers
from seqkd.checkpoint import Model
from seqkd.config import Machine
from seqkd.nbest import Hypothesis
from seqkd.products import Precision


class Job(NamedTuple):
    """Sentences for one process; only names and text travel, each process loads the model once."""

    model: Path
    machine: Machine
    sources: Sequence[str]
    beam: int
    nbest: int = 1
    normalise: float = 0.0
    precision: Precision = "fp32"


@cache
def _load(folder: Path, machine: Machine, precision: Precision) -> Model:
    return checkpoint.load(folder, hardware.settle(machine, precision))


def run(job: Job) -> list[list[Hypothesis]]:
    """For every source, in order, its hypotheses, best first."""
    model = _load(job.model, job.machine, job.precision)
    sources = [model.vocab.encode(source) for source in job.sources]
    return search.decode(model.network, sources, beam=job.beam, nbest=job.nbest, normalise=job.normalise)


def run_all(jobs: Iterable[Job], machine: Machine) -> Iterator[list[list[Hypothesis]]]:
    """The jobs' results in the jobs' order; on a GPU one process has it all."""
    processes = 1 if hardware.settle(machine).type == "cuda" else machine.workers
    return workers.ordered(run, jobs, processes=processes)


def best(
    model: Path, sources: Sequence[str], *, beam: int, machine: Machine, normalise: float = 0.0
) -> list[Hypothesis]:
    """The best hypothesis of every source, in order."""
    deals = range(max(1, min(machine.workers, len(sources))))  # dealt like cards, so that the hands are alike in length
    jobs = [Job(model, machine, sources[deal :: len(deals)], beam, 1, normalise) for deal in deals]
    found: list[Hypothesis] = [Hypothesis((), 0.0, True)] * len(sources)
    for deal, answers in zip(deals, run_all(jobs, machine), strict=True):
        found[deal :: len(deals)] = [answer[0] for answer in answers]
    return found
