"""How long each stage of a run will take and what it needs: the costs measured here times the counts of params.yaml."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from seqkd.config.schema import Machine, NetworkSettings, OptimizerSettings, Params
from seqkd.decoding import translator
from seqkd.planning import budget
from seqkd.planning.budget import CorpusStats, ResourceEstimate
from seqkd.planning.costs import Costs, Role, SearchWorkload, TrainingKind, answering, kinds, listed, tested, timed

LIST, BEST = 1.1, 1.0  # rows x steps of a search for a list, and for one best, by those of the human target
SETUP = 0.5  # seconds that DVC takes for a stage beside its command
REPORT = 8.0  # seconds of drawing
CLEANED = 60e-6, 350  # seconds and bytes a pair of preprocess, download not counted
LEARNT = 120e-6  # seconds a pair of vocab


class Line(NamedTuple):
    """One stage, or several of the same kind."""

    stage: str
    seconds: float
    disk: float  # bytes that stay, DVC's copies included
    memory: float  # bytes, all its processes together


@dataclass(frozen=True)
class Forecast:
    """What is known of the run to come."""

    params: Params
    machine: Machine
    costs: Costs
    text: CorpusStats
    dev: int  # pairs
    test: int

    def lines(self) -> Iterator[Line]:
        """Every stage in the order of a run."""
        yield from self._made()
        trained = {name: self._trained(kind, settings) for name, (kind, settings) in kinds(self.params).items()}
        yield from (self._model(f"train@{name}", name, trained) for name in ("teacher", "baseline"))
        yield from (self._decoded(row) for row in self.params.decode)
        yield from (self._selected(row) for row in self.params.select)
        yield from (self._model(f"distill@{name}", name, trained) for name in self.params.distill)
        yield from (self._model(f"finetune@{name}", name, trained) for name in self.params.finetune)
        yield from (self._model(f"prune@{ratio}", f"prune-{ratio}", trained) for ratio in self.params.prune.ratios)
        for role, names in self._roles().items():
            if names:
                yield self._evaluated(role, len(names))
        yield Line("report", self.costs.bare + REPORT, 4e6, 3 * budget.BARE)
        yield self._timed()

    def _roles(self) -> dict[Role, list[str]]:
        """Every model, the pruned ones too, by whose size it has."""
        pruned = [f"prune-{ratio}" for ratio in self.params.prune.ratios]
        whole = [(self.params.role(name), name) for name in self.params.models]
        roles = [*whole, *((self.params.role(self.params.prune.model), name) for name in pruned)]
        kept: dict[Role, list[str]] = {"teacher": [], "student": []}
        for role, name in roles:
            kept[role].append(name)
        return kept

    def _network(self, role: Role) -> NetworkSettings:
        found: NetworkSettings = getattr(self.params, role)
        return found

    def _made(self) -> Iterator[Line]:
        seconds, held = CLEANED
        kept = budget.COPIES * budget.text(self.text)
        pairs, bare, memory = self.text.pairs, self.costs.bare, budget.BARE + self.text.bytes
        yield Line("preprocess", bare + pairs * seconds, kept, memory + pairs * held)
        yield Line("vocab", bare + pairs * LEARNT, 0.0, memory)

    def _trained(self, kind: TrainingKind, settings: OptimizerSettings) -> float:
        """Seconds of reading and training."""
        costs, pairs = self.costs, self.text.pairs
        paid, dev = costs.trainings[kind], costs.likelihood[kind.role] * self.dev
        epoch = -(-pairs // kind.batch_size) * paid.update + dev / budget.processes(settings, self.machine)
        readings = 1 if budget.stored(self.params.teacher, self.text) else settings.epochs  # by the teacher
        return (pairs + self.dev) * costs.read + pairs * readings * paid.pair + settings.epochs * epoch

    def _rows(self, hunt: SearchWorkload, lines: int, *, nbest: bool) -> float:
        """Seconds of a search in all its processes."""
        longer = 1.0 if hunt.beam == 1 else LIST if nbest else BEST
        found, rows = self.costs.searches[hunt], hunt.beam * longer * (self.text.target + 1)
        return lines * (found.sentence + rows * found.row) / hunt.processes

    def _model(self, stage: str, name: str, trained: dict[str, float]) -> Line:
        every = kinds(self.params)
        parts = [part for part in (name, f"{name}*") if part in every]
        role, ratio = every[name][0].role, float(name.removeprefix("prune-")) if f"{name}*" in every else 0.0
        greedy = answering(self.params, role, dev=self.dev)
        answers = self._rows(greedy, self.dev, nbest=False) + self.costs.scored * self.dev
        memory = max(self._training_memory(*every[part]) for part in parts)
        size = self._network(role), self.params.vocab.size
        seconds = self.costs.start + sum(trained[part] for part in parts) + answers
        return Line(stage, seconds, budget.COPIES * budget.model(*size, pruned=ratio), self.costs.memory + memory)

    def _training_memory(self, kind: TrainingKind, settings: OptimizerSettings) -> int:
        if translator.on_gpu(self.machine):
            return 0
        longest = min(self.text.longest, self.params.data.max_length)
        return budget.training(
            self._network(kind.role),
            settings,
            replace(self.text, longest=longest),
            vocab=self.params.vocab.size,
            processes=budget.processes(settings, self.machine),
            teacher=self.params.teacher if kind.distilling else None,
        )

    def _decoded(self, row: str) -> Line:
        params, costs, text = self.params, self.costs, self.text
        beam = params.decode[row].beam
        hunt = listed(params, self.machine, row)
        beside = text.pairs * (2 * costs.read + beam * costs.written) / hunt.processes
        seconds = costs.start + self._rows(hunt, text.pairs, nbest=True) + beside
        memory = self._search_memory("teacher", text, beam=beam, nbest=beam)
        return Line(f"decode@{row}", seconds, budget.LIST_COPIES * budget.lists(text, beam=beam), memory)

    def _search_memory(self, role: Role, text: CorpusStats, *, beam: int, nbest: int) -> int:
        if translator.on_gpu(self.machine):
            return self.costs.memory
        several = self.machine.processes
        size = {"vocab": self.params.vocab.size, "workers": several}
        return self.costs.memory + budget.searching(self._network(role), text, beam=beam, nbest=nbest, **size)

    def _selected(self, row: str) -> Line:
        costs, text, several = self.costs, self.text, self.machine.processes
        seconds = costs.bare + text.pairs * (costs.selections[row] / several + costs.read)
        return Line(f"select@{row}", seconds, budget.COPIES * budget.text(text), (several + 1) * budget.SELECTING)

    def _evaluated(self, role: Role, models: int) -> Line:
        costs, beams = self.costs, self.params.evaluate.beams
        hunts = [tested(self.machine, role, beam, test=self.test) for beam in beams]
        searched = sum(self._rows(hunt, self.test, nbest=False) for hunt in hunts)
        each = self.test * (costs.read + costs.likelihood[role] + len(beams) * costs.scored) + searched
        text = replace(self.text, pairs=self.test)
        memory = text.bytes + max(self._search_memory(role, text, beam=beam, nbest=1) for beam in beams)
        kept = budget.COPIES * len(beams) * budget.text(text) / 2
        return Line(f"evaluate, {models} of {role} size", models * (costs.start + SETUP + each), models * kept, memory)

    def _timed(self) -> Line:
        settings, params = self.params.speed, self.params
        roles = [params.role(name) for name in settings.models]
        beams = params.evaluate.beams
        hunts = [timed(params, role, beam) for role in roles for beam in beams]
        lines = settings.rounds * min(settings.sentences, self.test)
        seconds = sum(self._rows(hunt, lines, nbest=False) for hunt in hunts)
        text = replace(self.text, pairs=settings.sentences)
        searches = [self._search_memory(role, text, beam=beam, nbest=1) for role in roles for beam in beams]
        memory = text.bytes + max(searches)
        return Line("speed", self.costs.start + REPORT + seconds, 4e6, memory)


def need(lines: Sequence[Line], folder: Path) -> ResourceEstimate:
    """What a whole run takes under a folder: the disk of every stage, the memory of the largest."""
    largest = max(lines, key=lambda line: line.memory)
    return ResourceEstimate(
        work=f"A whole run, {largest.stage} most of all,",
        memory=round(largest.memory),
        disk={folder: round(sum(line.disk for line in lines))},
        lower="processes in machine.yaml, or a size, batch or beam in params.yaml",
    )


def lasting(seconds: float) -> str:
    """45 s, 12 min, 3.4 h, 12 days"""
    for unit, size, least in (("days", 86400.0, 2.0), ("h", 3600.0, 1.5), ("min", 60.0, 1.5), ("s", 1.0, 0.0)):
        if (count := seconds / size) >= least:
            return f"{count:.0f} {unit}" if count >= 9.95 or unit == "s" else f"{count:.1f} {unit}"
    raise AssertionError


def plain(lines: Sequence[Line]) -> str:
    """A table for a terminal, with the whole in its last row: times and disk added, the largest memory."""
    seconds, disk = sum(line.seconds for line in lines), sum(line.disk for line in lines)
    whole = Line("all", seconds, disk, max(line.memory for line in lines))
    rows = [(it.stage, lasting(it.seconds), budget.shown(it.disk), budget.shown(it.memory)) for it in (*lines, whole)]
    return tabulate(rows, headers=["stage", "time", "disk", "memory"], colalign=("left", "right", "right", "right"))
