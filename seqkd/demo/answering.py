"""Models that answer a text side by side, each in a process of its own, so that none waits for another."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from seqkd.config.machine import Machine
from seqkd.data.nbest import Hypothesis
from seqkd.data.vocab import Vocab
from seqkd.decoding import hypotheses, translator
from seqkd.decoding.translator import DecodingJob
from seqkd.models import checkpoint
from seqkd.utils import pool

LENGTH_PENALTY = 1.0  # as `seqkd translate` has it


class Timed(NamedTuple):
    """A process's answer."""

    best: Hypothesis
    seconds: float


class Answer(NamedTuple):
    text: str
    score: float  # log-probability of a piece on average, nats
    milliseconds: float


class Answerer:
    """A model at work in its own process. Of the questions that wait for it only the newest is answered."""

    def __init__(self, folder: Path, machine: Machine, executor: Executor) -> None:
        model = checkpoint.load(folder)
        self.name = folder.resolve().name
        self.parameters = sum(parameter.numel() for parameter in model.network.parameters())
        self.bytes = checkpoint.weights_size(folder)
        self.vocab: Vocab = model.vocab
        self._job = DecodingJob(folder, machine, beam=1, length_penalty=LENGTH_PENALTY)
        self._executor = executor
        self._waiting: Future[Timed] | None = None

    def ask(self, text: str, *, beam: int) -> Future[Timed]:
        """Return the future answer; the one asked for before is cancelled if it has not begun."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = self._executor.submit(_translate, self._job._replace(beam=beam, sources=[text]))
        return self._waiting

    def answer(self, timed: Timed, text: str) -> Answer:
        """Return what to show of a process's answer to a text."""
        score = hypotheses.normalized_score(timed.best, LENGTH_PENALTY) if timed.best.ids else 0.0
        return Answer(self.vocab.decode(timed.best.ids, text), score, 1000 * timed.seconds)

    @classmethod
    @contextmanager
    def start_all(cls, folders: Sequence[Path], machine: Machine) -> Iterator[list[Self]]:
        """Yield an answerer of each folder, loaded and warm; their processes end with the block."""
        with ExitStack() as stack:
            answerers = [cls(folder, machine, stack.enter_context(pool.workers(1))) for folder in folders]
            for first in [
                answerer.ask("warm up", beam=5) for answerer in answerers
            ]:  # forks before any thread is there
                first.result()
            yield answerers


def _translate(job: DecodingJob) -> Timed:
    start = time.perf_counter()
    [[best, *_]] = translator.run(job)
    return Timed(best, time.perf_counter() - start)
