"""The kinds of work that a run is made of, and what each costs on a machine."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from seqkd import lists, translator
from seqkd.config import Machine, Optim, Params
from seqkd.products import Precision

Role = Literal["teacher", "student"]
ROLES: tuple[Role, ...] = "teacher", "student"


class Kind(NamedTuple):
    """Trainings of one kind take the same time for an update."""

    role: Role
    batch: int
    method: Literal["adam", "sgd"]
    distilling: bool  # with Word-KD


class Paid(NamedTuple):
    """What a training costs, in seconds."""

    update: float  # one step of all processes together
    pair: float  # of the text, once, before the first update


class Hunt(NamedTuple):
    """Searches of one kind take the same time for a row and step."""

    role: Role
    beam: int
    precision: Precision
    processes: int
    lines: int  # that one of them is given at once


class Searched(NamedTuple):
    """What a search costs one of its processes, in seconds."""

    sentence: float  # read by the encoder
    row: float  # of one step


@dataclass(frozen=True)
class Costs:
    """Seconds of this machine."""

    start: float  # of a command with networks, until its work begins
    bare: float  # of one without
    read: float  # a pair, its pieces found, in one process
    trainings: dict[Kind, Paid]
    searches: dict[Hunt, Searched]
    likelihood: dict[Role, float]  # a pair, in one process
    selections: dict[str, float]  # a line, by the row of select, in one process
    written: float  # a hypothesis, in one process
    scored: float  # a translation
    memory: int  # bytes this process holds before any work


def kinds(params: Params) -> dict[str, tuple[Kind, Optim]]:
    """Every training of a run by its model's name; a pruned model's two are told apart by a star."""

    def kind(role: Role, settings: Optim, alpha: float = 0.0) -> tuple[Kind, Optim]:
        return Kind(role, settings.batch, settings.method, alpha > 0), settings

    optim = params.optim
    found = {"teacher": kind("teacher", optim.teacher), "baseline": kind("student", optim.student)}
    found |= {name: kind("student", optim.student, row.alpha) for name, row in params.distill.items()}
    found |= {name: kind(params.role(name), optim.tune, row.alpha) for name, row in params.finetune.items()}
    role = params.role(params.prune.model)
    found |= {f"prune-{ratio}": kind(role, optim.retrain) for ratio in params.prune.ratios}
    return found | {f"prune-{ratio}*": kind(role, optim.tune) for ratio in params.prune.ratios}


def listed(params: Params, machine: Machine, row: str) -> Hunt:
    """The search of a row of decode."""
    return Hunt("teacher", params.decode[row].beam, params.precision, translator.processes(machine), lists.GROUP)


def tested(machine: Machine, role: Role, beam: int, *, test: int) -> Hunt:
    """That of an evaluation."""
    return Hunt(role, beam, "fp32", translator.processes(machine), min(test, translator.chunk(machine)))


def timed(params: Params, role: Role, beam: int) -> Hunt:
    """That of the stage speed."""
    return Hunt(role, beam, "fp32", 1, params.speed.sentences)


def answering(params: Params, role: Role, *, dev: int) -> Hunt:
    """That at the end of a training."""
    return Hunt(role, 1, params.precision, 1, dev)


def hunts(params: Params, machine: Machine, *, dev: int, test: int) -> set[Hunt]:
    """Every search of a run."""
    found = {listed(params, machine, row) for row in params.decode}
    for role in ROLES:
        found.add(answering(params, role, dev=dev))
        for beam in params.evaluate.beams:
            found |= {tested(machine, role, beam, test=test), timed(params, role, beam)}
    return found
