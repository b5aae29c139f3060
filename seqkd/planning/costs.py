"""The kinds of work that a run is made of, and what each costs on a machine."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from seqkd.config.schema import Machine, OptimizerSettings, Params
from seqkd.decoding import corpus_decoder, translator
from seqkd.ops.matmul import Precision

Role = Literal["teacher", "student"]
ROLES: tuple[Role, ...] = "teacher", "student"


class TrainingKind(NamedTuple):
    """Trainings of one kind take the same time for an update."""

    role: Role
    batch_size: int
    optimizer: Literal["adam", "sgd"]
    distilling: bool  # with Word-KD


class TrainingCost(NamedTuple):
    """What a training costs, in seconds."""

    update: float  # one step of all processes together
    pair: float  # of the text, once, before the first update


class SearchWorkload(NamedTuple):
    """Searches of one kind take the same time for a row and step."""

    role: Role
    beam: int
    precision: Precision
    processes: int
    lines: int  # that one of them is given at once


class SearchCost(NamedTuple):
    """What a search costs one of its processes, in seconds."""

    sentence: float  # read by the encoder
    row: float  # of one step


@dataclass(frozen=True)
class Costs:
    """Seconds of this machine."""

    start: float  # of a command with networks, until its work begins
    bare: float  # of one without
    read: float  # a pair, its pieces found, in one process
    trainings: dict[TrainingKind, TrainingCost]
    searches: dict[SearchWorkload, SearchCost]
    likelihood: dict[Role, float]  # a pair, in one process
    selections: dict[str, float]  # a line, by the row of select, in one process
    written: float  # a hypothesis, in one process
    scored: float  # a translation
    memory: int  # bytes this process holds before any work


def kinds(params: Params) -> dict[str, tuple[TrainingKind, OptimizerSettings]]:
    """Every training of a run by its model's name; a pruned model's two are told apart by a star."""

    def kind(role: Role, settings: OptimizerSettings, alpha: float = 0.0) -> tuple[TrainingKind, OptimizerSettings]:
        return TrainingKind(role, settings.batch_size, settings.optimizer, alpha > 0), settings

    optim = params.optim
    found = {"teacher": kind("teacher", optim.teacher), "baseline": kind("student", optim.student)}
    found |= {name: kind("student", optim.student, row.alpha) for name, row in params.distill.items()}
    found |= {name: kind(params.role(name), optim.finetune, row.alpha) for name, row in params.finetune.items()}
    role = params.role(params.prune.model)
    found |= {f"prune-{ratio}": kind(role, optim.retrain) for ratio in params.prune.ratios}
    return found | {f"prune-{ratio}*": kind(role, optim.finetune) for ratio in params.prune.ratios}


def listed(params: Params, machine: Machine, row: str) -> SearchWorkload:
    """The search of a row of decode."""
    return SearchWorkload(
        "teacher",
        params.decode[row].beam,
        params.precision,
        translator.process_count(machine),
        corpus_decoder.CHUNK_SIZE,
    )


def tested(machine: Machine, role: Role, beam: int, *, test: int) -> SearchWorkload:
    """That of an evaluation."""
    return SearchWorkload(
        role, beam, "fp32", translator.process_count(machine), min(test, translator.chunk_size(machine))
    )


def timed(params: Params, role: Role, beam: int) -> SearchWorkload:
    """That of the stage speed."""
    return SearchWorkload(role, beam, "fp32", 1, params.speed.sentences)


def answering(params: Params, role: Role, *, dev: int) -> SearchWorkload:
    """That at the end of a training."""
    return SearchWorkload(role, 1, params.precision, 1, dev)


def search_workloads(params: Params, machine: Machine, *, dev: int, test: int) -> set[SearchWorkload]:
    """Every search of a run."""
    found = {listed(params, machine, row) for row in params.decode}
    for role in ROLES:
        found.add(answering(params, role, dev=dev))
        for beam in params.evaluate.beams:
            found |= {tested(machine, role, beam, test=test), timed(params, role, beam)}
    return found
