"""What the work of a run costs on this machine: a little of each kind, done by the code that will do it all.

Networks have random weights, for a product takes as long whatever its numbers are. A random network never writes a
sensible end, so its searches run to their limit: what one row takes for one step is measured, and how many rows and
steps a trained network needs is left to the forecast.

Nothing here grows with the text that is planned for. Where a single step of the run's own size takes long, less is
done: of a training one update, of a search a few rows, for a row of a large network takes as long among a hundred as
among a thousand.
"""

import io
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypedDict, TypeVar

import torch

from seqkd.config import schema
from seqkd.config.schema import Machine, OptimizerSettings, Params
from seqkd.data import batches, nbest
from seqkd.data.batches import TokenizedCorpus
from seqkd.data.nbest import Hypothesis
from seqkd.data.vocab import EOS, UNK
from seqkd.decoding import beam_search, translator
from seqkd.evaluation import metrics
from seqkd.models import perplexity
from seqkd.models.lstm import LSTMNetwork, NetworkShape
from seqkd.ops import devices
from seqkd.planning import budget
from seqkd.planning.costs import (
    ROLES,
    Costs,
    Role,
    SearchCost,
    SearchWorkload,
    TrainingCost,
    TrainingKind,
    kinds,
    search_workloads,
)
from seqkd.planning.material import CorpusSample
from seqkd.selection import select
from seqkd.training import trainer
from seqkd.training.trainer import TrainingJob
from seqkd.utils import pool
from seqkd.utils.errors import InputError
from seqkd.utils.progress import Progress

AIM = 4.0  # seconds that a measurement should take; a single step that takes longer is measured once
MOST = 48  # batches, or groups of sentences, that one looks at
SHORTEST = 2  # pieces of a source that ends soon
FEW, NARROW = 32, 4  # sentences and beam that tell whether a search is slow
SLOW = 1.0  # seconds of a full group of such sources: what a step takes beside its rows no longer counts then
LINES = 200  # of a text, for what costs little a line
FAR = 1e4  # from all other logits: that of an end that comes at once, or of one that never does
Clock = Callable[[], float]
T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class _Selecting(TypedDict):
    written: float
    selections: dict[str, float]


class Probe(NamedTuple):
    """What a search of a few rows takes, in seconds."""

    fixed: float  # before the first sentence
    begun: float  # read and ended at once
    whole: float  # of the shortest sentences, never ended


def measure(
    material: CorpusSample, params: Params, machine: Machine, *, aim: float = AIM, clock: Clock = time.perf_counter
) -> Costs:
    """A minute of this machine, for a laptop's sizes; aim: seconds of each measurement.

    clock: in seconds; where all work is one process's, the processor's own will do.
    """
    size = params.vocab.size
    text = TokenizedCorpus(*([[piece % size for piece in ids] for ids in side] for side in material.pieces()))
    bench, held = _Bench(text, params, machine, clock, aim), budget.held()
    trainings = sorted({kind for kind, _ in kinds(params).values()})
    searches = sorted(search_workloads(params, machine, dev=material.dev, test=material.test))
    bench.compile()
    with Progress(len(trainings) + len(searches), unit="measurements", label="plan") as bar:

        def told(work: Callable[[K], V], item: K) -> V:
            found = work(item)
            bar.add(1)
            return found

        return Costs(
            start=_start("train"),
            bare=_start("select"),
            read=_each(material.pieces, len(material.pairs), clock),
            trainings={kind: told(bench.training, kind) for kind in trainings},
            searches={hunt: told(bench.search, hunt) for hunt in searches},
            likelihood={role: bench.likelihood(role) for role in ROLES},
            **_selecting(material, params, clock),
            scored=_scoring(material, clock),
            memory=held,
        )


def _start(stage: str) -> float:
    """Of a stage's command. In seconds of the wall, for the time a process waits for its files counts too."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "seqkd", stage, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def _each(work: Callable[[], object], count: int, clock: Clock) -> float:
    began = clock()
    work()
    return (clock() - began) / max(1, count)


@dataclass(frozen=True)
class _Bench:
    """Where networks of the run's sizes are tried."""

    text: TokenizedCorpus
    params: Params
    machine: Machine
    clock: Clock
    aim: float
    probes: dict[SearchWorkload, Probe] = field(default_factory=dict)

    def compile(self) -> None:
        """The loops are compiled, or loaded, when they are first used; not while a clock runs."""
        tiny: dict[str, schema.NetworkSettings] = dict.fromkeys(ROLES, schema.NetworkSettings(size="1x8", dropout=0.1))
        bench, text = replace(self, params=self.params.model_copy(update=tiny)), self._fitting()
        bench._train(
            TrainingKind("student", 8, "adam", True), [list(range(min(8, len(text.sources))))], batches_tried=1
        )
        bench._search(SearchWorkload("student", 2, "fp32", 1, 1), [text.sources[:1]])

    def training(self, kind: TrainingKind) -> TrainingCost:
        planned = batches.make_batches(self._fitting(), kind.batch_size)
        first = self._train(kind, planned, batches_tried=1)
        if first > self.aim / 2:
            return TrainingCost(first, 0.0)
        start = self._train(kind, planned, batches_tried=1)  # the first one made products ready
        if start > self.aim / 8:
            update = max(1e-6, self._train(kind, planned, batches_tried=1, epochs=3) - start) / 2
            return TrainingCost(update, max(0.0, start - update) / kind.batch_size if kind.distilling else 0.0)
        count = min(MOST, len(planned), max(4, int(self.aim / 4 / start)))
        once, thrice = (self._train(kind, planned, batches_tried=count, epochs=epochs) for epochs in (1, 3))
        update = max(1e-6, thrice - once) / (2 * count)
        reads = kind.distilling and not translator.on_gpu(self.machine)  # whose first epoch's extra time is recording
        return TrainingCost(
            update, max(0.0, once - start - (count - 1) * update) / (count * kind.batch_size) if reads else 0.0
        )

    def _train(self, kind: TrainingKind, planned: list[list[int]], *, batches_tried: int, epochs: int = 1) -> float:
        """Seconds of a training on some batches of the text, spread evenly over its lengths."""
        device = devices.configure(self.machine, self.params.precision)
        rows = [row for chosen in _spread(planned, batches_tried) for row in chosen]
        text = TokenizedCorpus(*([side[row] for row in rows] for side in self._fitting()))
        settings = OptimizerSettings(
            optimizer=kind.optimizer, learning_rate=1e-4, schedule="constant", epochs=epochs, batch_size=kind.batch_size
        )
        teacher = _network(self.params, "teacher", device) if kind.distilling else None
        dev = TokenizedCorpus(text.sources[:1], text.targets[:1])
        lesson = TrainingJob(text, dev, settings, 1, alpha=0.5 if teacher else 0.0, teacher=teacher, label="sample")
        network = _network(self.params, kind.role, device)
        with redirect_stderr(io.StringIO()):  # no bars of these
            return _each(lambda: trainer.train(network, lesson, self.machine), 1, self.clock)

    def _fitting(self) -> TokenizedCorpus:
        longest, pairs = self.params.data.max_length, zip(*self.text, strict=True)
        kept = [pair for pair in pairs if all(0 < len(ids) <= longest for ids in pair)]
        if not kept:
            raise InputError("No pair is left; raise data.max_length in params.yaml or check the corpus.")
        return TokenizedCorpus([source for source, _ in kept], [target for _, target in kept])

    def search(self, hunt: SearchWorkload) -> SearchCost:
        """Of some of the groups into which the search divides what it is given, in every process at the same time."""
        sources = [ids for ids in self.text.sources if ids]
        few = self._few(hunt._replace(beam=NARROW, lines=FEW))
        rows = FEW * NARROW * beam_search.max_length(SHORTEST)
        sentence, row = max(0.0, few.begun - few.fixed) / FEW, max(0.0, few.whole - few.fixed) / rows
        if row * budget.ROWS * beam_search.max_length(SHORTEST) > SLOW:
            return SearchCost(sentence + few.fixed / hunt.lines, row)
        sources = sorted(_spread(sources, min(max(1, hunt.lines), len(sources))), key=len)
        size = max(1, budget.ROWS // hunt.beam)
        groups = [sources[at : at + size] for at in range(0, len(sources), size)]
        seconds, _ = self._search(hunt, [[ids[:SHORTEST] for ids in groups[0]]])
        longer = sum(len(ids) + 5 for group in groups for ids in group) / (7 * len(sources))
        count = min(len(groups), max(2, int(self.aim / longer / seconds)))
        return self._search(hunt, _spread(groups, count))[1]

    def _few(self, hunt: SearchWorkload) -> Probe:
        """Of FEW sentences; the same for every beam and every number of lines."""
        if hunt not in self.probes:
            sources = _spread([ids for ids in self.text.sources if ids], FEW)
            job = _Job(self.params, self.machine, hunt, [sources], self.clock)
            found = list(pool.map_ordered(_probed, [job] * hunt.processes, processes=hunt.processes))
            self.probes[hunt] = Probe(*(sum(seconds) / len(found) for seconds in zip(*found, strict=True)))
        return self.probes[hunt]

    def _search(self, hunt: SearchWorkload, groups: Sequence[Sequence[Sequence[int]]]) -> tuple[float, SearchCost]:
        """Seconds of these groups, and what they are made of."""
        job = _Job(self.params, self.machine, hunt, groups, self.clock)
        found = list(pool.map_ordered(_searched, [job] * hunt.processes, processes=hunt.processes))
        begun, whole = (sum(seconds) / len(found) for seconds in zip(*found, strict=True))
        lengths = [len(ids) for group in groups for ids in group]
        rows = hunt.beam * sum(beam_search.max_length(length) for length in lengths)
        return whole, SearchCost(begun / len(lengths), max(0.0, whole - begun) / rows)

    def likelihood(self, role: Role) -> float:
        device = devices.configure(self.machine)
        planned, network = batches.make_batches(self.text, perplexity.BATCH_SIZE), _network(self.params, role, device)

        def seconds(rows: Sequence[int]) -> float:
            text = TokenizedCorpus(*([side[row] for row in rows] for side in self.text))
            return _each(lambda: perplexity.total_nll(network, text), 1, self.clock)

        (median,) = _spread(planned, 1)
        seconds(median[:4])
        once = seconds(median)
        if once > self.aim / 4:
            return once / len(median)
        rows = [row for chosen in _spread(planned, 4) for row in chosen]
        return seconds(rows) / len(rows)


class _Job(NamedTuple):
    params: Params
    machine: Machine
    hunt: SearchWorkload
    groups: Sequence[Sequence[Sequence[int]]]
    clock: Clock


def _searched(job: _Job) -> tuple[float, float]:
    """Seconds of searches that end with their first word, and of such that never do."""
    device = devices.configure(job.machine, job.hunt.precision)
    network, beam = _network(job.params, job.hunt.role, device), job.hunt.beam

    def seconds(end: float, nbest: int) -> float:
        with torch.no_grad():
            network.output_bias[EOS] = end
        decode = partial(beam_search.decode, network, beam=beam, nbest=nbest)
        with network.inference():
            if network.output.is_cuda:
                deque(map(decode, job.groups), maxlen=0)  # records
            return _each(lambda: deque(map(decode, job.groups), maxlen=0), 1, job.clock)

    beam_search.decode(network, [job.groups[0][0][:1]], beam=beam)
    return seconds(FAR, 1), seconds(-FAR, beam)


def _probed(job: _Job) -> Probe:
    device = devices.configure(job.machine, job.hunt.precision)
    network, beam = _network(job.params, job.hunt.role, device), job.hunt.beam
    (sources,) = job.groups

    def seconds(given: Sequence[Sequence[int]], end: float) -> float:
        with torch.no_grad():
            network.output_bias[EOS] = end
        return _each(lambda: beam_search.decode(network, given, beam=beam, nbest=1), 1, job.clock)

    def once() -> Probe:
        return Probe(
            fixed=seconds([sources[0][:1]], FAR),
            begun=seconds(sources, FAR),
            whole=seconds([ids[:SHORTEST] for ids in sources], -FAR),
        )

    first = once()  # a fork copies its parent's memory page by page, as it writes to it
    return once() if first.whole < SLOW else first


def _network(params: Params, role: Role, device: torch.device) -> LSTMNetwork:
    """Of a role's size, with random weights."""
    size: schema.NetworkSettings = getattr(params, role)
    network = LSTMNetwork(NetworkShape(params.vocab.size, size.layers, size.hidden, size.dropout))
    network.init_weights(torch.Generator().manual_seed(1))
    return network.to(device)


def _spread(items: Sequence[T], count: int) -> list[T]:
    """count of the items, evenly spaced, from none of the ends."""
    return [items[(2 * at + 1) * len(items) // (2 * count)] for at in range(count)]


def _scoring(material: CorpusSample, clock: Clock) -> float:
    targets = [pair.target for pair in _spread(material.pairs, min(LINES, len(material.pairs)))]
    found = [target.removesuffix(".") for target in targets]
    return _each(lambda: (metrics.bleu(found, targets), metrics.chrf(found, targets)), len(targets), clock)


def _selecting(material: CorpusSample, params: Params, clock: Clock) -> "_Selecting":
    """A made-up n-best list of some lines, written, and chosen from by every row of select."""
    pairs = sorted(_spread(material.pairs, min(LINES, len(material.pairs))))
    written, selections = 0.0, {}
    with TemporaryDirectory() as name:
        model = Path(name, "joint.model")
        model.write_bytes(material.vocab.model)
        for row, settings in params.select.items():
            beam = params.decode[settings.nbest].beam
            entries = [(pair, _hypotheses(material.vocab.encode(pair.target), beam)) for pair in pairs]
            written = _each(partial(nbest.write_part, Path(name), 0, entries), len(pairs) * beam, clock)
            part = select.Part(nbest.part_path(Path(name), 0), pairs)
            choose = partial(select.choose, part, model=model, settings=settings)
            choose()  # compiled, or loaded, before a clock runs
            selections[row] = _each(choose, len(pairs), clock)
    return {"written": written, "selections": selections}


def _hypotheses(ids: Sequence[int], count: int) -> list[Hypothesis]:
    """Of a target's length, each different from it in one place or another."""
    found = []
    for rank in range(count):
        changed = list(ids) or [UNK]
        changed[rank % len(changed)] = 4 + rank
        found.append(Hypothesis(tuple(changed[: len(changed) - rank % 3] or changed), -1.0 - rank, True))
    return found
