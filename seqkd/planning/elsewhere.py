"""What a plan, measured on this machine, takes on several such machines and on GPUs.

Machines: lines of a text are divided. A training divides its updates, and then machines send gradients and weights in
every update; where that makes it slower it stays on one machine, and other trainings run beside it.
GPUs: from rates that were measured, or that the user states; never from a guess.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from seqkd.config.schema import NetworkSettings, Params
from seqkd.ops.matmul import Precision
from seqkd.planning import plan, stage_graph
from seqkd.planning.plan import Stage
from seqkd.planning.stage_graph import Graph
from seqkd.training import ranks

# Of one NVIDIA H200 (torch 2.11.0+cu130), 2026-11-27, from reports/benchmarks.md, "2x500 on a GPU": target pieces a
# second of a training with batches of 64; sentences a second, hypotheses and their pieces in a search.
MEASURED: dict[Precision, tuple[float, tuple[float, float, float]]] = {
    "fp32": (165_140, (1_075, 35, 14.1)),
    "bf16": (206_101, (1_648, 35, 14.1)),
}
SOURCE = "an NVIDIA H200 as in reports/benchmarks.md (--gpu-rate states another's speed)"
MEASURED_SIZE, MEASURED_PIECES = NetworkSettings(size="2x500", dropout=0.0), 8000
GIGABIT = 125e6  # bytes


class Rates(NamedTuple):
    """What a GPU does in a second: weights times pieces."""

    trained: float
    searched: float


def gpu_rates(precision: Precision, stated: float | None = None) -> Rates:
    """Return the rates of a GPU. stated: its target pieces a second in a training of MEASURED_SIZE; None: measured.

    A search is taken to be faster or slower by the same factor.
    """
    trained, (sentences, beam, pieces) = MEASURED[precision]
    weights, factor = plan.weights(MEASURED_SIZE, MEASURED_PIECES), (stated or trained) / trained
    return Rates(factor * trained * weights, factor * sentences * beam * pieces * weights)


def gpu_seconds(stage: Stage, rates: Rates) -> float:
    """Return the seconds of a stage on a GPU. A larger network is taken to be no faster by its weights."""
    if not (stage.trained or stage.searched):
        return stage.seconds
    return stage.start + stage.trained / rates.trained + stage.searched / rates.searched


def exchange_seconds(stage: Stage, machines: int, bandwidth: float) -> float:
    """Return how long an update waits for what machines send, with a part of the batch for each.

    bandwidth: Gb/s of each machine.
    """
    return sent(stage, machines) / (bandwidth * GIGABIT)


def sent(stage: Stage, machines: int) -> float:
    """Return the bytes that each machine sends in an update."""
    return ranks.bytes_sent(round(stage.gradient / 4), shards=machines, ranks=machines)


def machine_seconds(stage: Stage, machines: int, bandwidth: float) -> tuple[float, int]:
    """Return the seconds of a stage on the best number of machines, and that number. bandwidth: Gb/s of each."""
    if stage.spreads:
        return stage.start + (stage.seconds - stage.start) / machines, machines
    if not stage.updates:
        return stage.seconds, 1
    ways = [1, *(2**power for power in range(1, machines.bit_length()) if 2**power < machines), machines]
    work = stage.seconds - stage.start
    times = [
        stage.start + work / each + stage.updates * exchange_seconds(stage, each, bandwidth) * (each > 1)
        for each in ways
    ]
    return min(zip(times, ways, strict=True))


def on_machines(
    stages: Sequence[Stage], params: Params, machines: int, bandwidth: float
) -> tuple[float, dict[str, tuple[float, int]]]:
    """Return the seconds of the whole run on so many machines, and each stage's, with the number that it takes.

    Trainings take one machine each, unless the run is shorter with as many as make each of them fastest.
    """
    best = {stage.name: machine_seconds(stage, machines, bandwidth) for stage in stages}
    alone = best | {stage.name: (stage.seconds, 1) for stage in stages if stage.updates}
    runs = [(whole_run(stages, params, machines, taken=taken), taken) for taken in (alone, best)]
    return min(runs, key=lambda run: run[0])


def whole_run(
    stages: Sequence[Stage], params: Params, machines: int, *, taken: Mapping[str, tuple[float, int]]
) -> float:
    """Return the seconds of all stages together, several at once. taken: each stage's seconds, on how many machines.

    A stage of several machines counts as so many of one, all of which the stages behind it wait for.
    """
    graph, parts, seconds = _graph(stages, params), dict[str, list[str]](), dict[str, float]()
    for stage in stages:
        each, count = taken[stage.name]
        parts[stage.name] = [f"{stage.name} {part}" for part in range(count)]
        seconds |= dict.fromkeys(parts[stage.name], each)
    spread = {
        part: {other for before in graph[name] for other in parts[before]} for name in graph for part in parts[name]
    }
    return stage_graph.replay(spread, seconds, machines)


def advice(stages: Sequence[Stage], machines: int, bandwidth: float, *, taken: Mapping[str, tuple[float, int]]) -> str:
    """Return two sentences on the trainings over so many machines. taken: as of on_machines."""
    trainings = [stage for stage in stages if stage.updates]
    longest = max(trainings, key=lambda stage: stage.seconds)
    update, exchange = longest.seconds / longest.updates, exchange_seconds(longest, machines, bandwidth)
    compared = "slower" if exchange > update * (1 - 1 / machines) else "faster"
    counts = sorted({taken[stage.name][1] for stage in trainings})
    return (
        f"At {bandwidth:g} Gb/s {longest.name} is {compared} on {machines} of them than on one: an update takes "
        f"{update:,.2g} s here, and to send {sent(longest, machines) / 1e6:,.0f} MB {exchange:,.2g} "
        f"s. Trainings are planned on {' or '.join(map(str, counts))} each, several at once."
    )


def _graph(stages: Sequence[Stage], params: Params) -> Graph:
    """Return which stage of a plan waits for which."""
    graph: Graph = {}
    for stage in stages:
        kind = stage.name.partition("@")[0].partition(",")[0]
        if kind in ("evaluate", "evidence", "report", "speed"):  # wait for all that stands above them
            graph[stage.name] = {name for name in graph if not name.startswith(kind)}
        else:
            graph[stage.name] = _inputs(stage.name, params) & {other.name for other in stages}
    return graph


def _inputs(name: str, params: Params) -> set[str]:
    """Return the stages whose outs a stage reads."""
    kind, _, row = name.partition("@")
    if kind in ("preprocess", "vocab"):
        return {"preprocess"} - {name}
    if kind == "select":
        return {"vocab", f"decode@{params.select[row].nbest}"}
    found = {"vocab", "train@teacher"} if kind != "train" else {"vocab"}
    if kind == "distill":
        found |= _text(params, params.distill[row].train_text)
    elif kind == "finetune":
        found |= {_model(params, params.finetune[row].init_from)} | _text(params, params.finetune[row].train_text)
    elif kind == "prune":
        found |= {_model(params, params.prune.model)}
        found |= _text(params, params.prune.retrain) | _text(params, params.prune.finetune)
    return found


def _model(params: Params, model: str) -> str:
    """Return the stage that trains a model."""
    section = "distill" if model in params.distill else "finetune" if model in params.finetune else "train"
    return f"{section}@{model}"


def _text(params: Params, text: str) -> set[str]:
    """Return the stages that make a text to train on, as far as a plan has them."""
    if text in params.mix:
        return set[str]().union(*(_text(params, part) for part in params.mix[text]))
    return {f"select@{text}"} if text in params.select else set()
