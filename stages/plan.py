"""plan: how long a run of these settings will take here and elsewhere, and the disk and memory it needs."""

import random
import sys
import textwrap
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, cast

import typer
from tabulate import tabulate

from seqkd.config import load, overlay, yaml_file
from seqkd.config.machine import Machine
from seqkd.config.schema import Params
from seqkd.data import bitext, vocab
from seqkd.data.bitext import Pair
from seqkd.data.vocab import Vocab
from seqkd.ops import devices, matmul
from seqkd.planning import bounds, elsewhere, plan
from seqkd.planning.plan import Sample, Stage
from seqkd.utils.errors import InputError

SAMPLED = 5000  # pairs, at most
HELD_OUT = 1000  # pairs of dev and of test, of a corpus that is not there
PairCount = Annotated[int | None, typer.Option(min=1, help="Training pairs to plan for, such as of a corpus to come.")]
Config = Annotated[Path | None, typer.Argument(help="A file of configs/, planned without changing params.yaml.")]
Machines = Annotated[int | None, typer.Option(min=2, max=100, help="Plan for so many machines too, and for GPUs.")]
Bandwidth = Annotated[float, typer.Option(min=0.001, help="Gb/s between the machines.")]
GpuRate = Annotated[
    float | None,
    typer.Option(min=1, help="Target pieces a second of a 2x500 training with 8,000 pieces on a GPU; else an H200's."),
]


def main(
    config: Config = None,
    *,
    pairs: PairCount = None,
    machines: Machines = None,
    bandwidth: Bandwidth = 1.0,
    gpu_rate: GpuRate = None,
) -> None:
    """Measure a slice of every kind of work, and predict a whole dvc repro from it."""
    params, machine = overlay.preview(config, params=Path("params.yaml")) if config else load.params(), load.machine()
    for role in ("teacher", "student"):
        bounds.require_network(role, getattr(params, role), params.vocab.size)
    sample, assumed = read_sample(params, machine, pairs)
    print(f"A whole run over {sample.train:,} pairs, processes: {machine.processes}; its download comes on top.")
    cost = matmul.precision_cost(devices.choose_precision(machine, params.precision))
    if cost and devices.device_of(machine).type == "cpu":
        assumed.append(f"Note: {cost}.")
    print(*assumed, sep="\n", flush=True)
    stages = []
    for stage in plan.stages(sample):
        print(f"plan: {stage.name}", file=sys.stderr, flush=True)
        stages.append(stage)
    if config or machines or gpu_rate:
        print(f"{_wide_table(stages, params, machines or 8, bandwidth=bandwidth, gpu_rate=gpu_rate)}\n")
    else:
        print(f"{_table(stages)}\n")
    memory, disk = max(stage.memory for stage in stages), sum(stage.disk for stage in stages)
    lower = "processes in machine.yaml, or a size, batch_size or beam in params.yaml"
    bounds.require("a whole run", memory, disk=disk, lower=lower)
    free = (bounds.free_disk(Path()) / 1e6, bounds.free_memory() / 1e6)
    print("It fits: {:,.0f} MB of disk and {:,.0f} MB of memory are free.".format(*free))


def read_sample(params: Params, machine: Machine, pairs: int | None) -> tuple[Sample, list[str]]:
    """Return a sample of the corpus, or of one made up where it is not there yet, and what is assumed."""
    folder, text, vocabulary = _outs(Path("dvc.yaml"))
    about = bitext.read_about(folder / "about.json") if (folder / "about.json").exists() else {}
    same = all(about.get(name) == getattr(params.data, name) for name in ("corpus", "source", "target"))
    if same and text.exists() and vocabulary.exists():
        total, counts = bitext.count_pairs(text), about["pairs"]
        sampled = list(islice(bitext.stream(text), 0, None, -(-total // SAMPLED)))
        assumed = [f"{pairs:,} pairs like the {total:,} of {text} are assumed."] if pairs else []
        held_out = counts["dev"], counts["test"]
        return Sample(params, machine, vocab.load(vocabulary), sampled, pairs or total, *held_out), assumed
    if pairs is None:
        raise InputError(
            f"{text}: {params.data.corpus} is not there yet; run dvc repro vocab, or give its size with --pairs."
        )
    made_up, pieces = _made_up(params.vocab.size)
    assumed = [f"{params.data.corpus} is not there yet: sentences as long as in news are assumed."]
    return Sample(params, machine, pieces, made_up, pairs, HELD_OUT, HELD_OUT), assumed


def _outs(pipeline: Path) -> list[Path]:
    """Return what preprocess and vocab write: the folder of about.json, the training text, the vocabulary."""
    try:
        stages = cast(dict[str, Any], yaml_file.read(pipeline))["stages"]
        folder, text, _, vocabulary = map(Path, [*stages["preprocess"]["outs"], *stages["vocab"]["outs"]])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{pipeline}: the outs of preprocess and vocab must be a folder, two texts and a vocabulary, by name alone;"
            " correct it, or git checkout it."
        ) from None
    return [folder, text, vocabulary]


def _made_up(vocab_size: int) -> tuple[list[Pair], Vocab]:
    """Return sentences that mean nothing, and a vocabulary in which they have some 33 pieces, as in news."""
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(2, 9))) for _ in range(1000 + 2 * vocab_size)]
    with TemporaryDirectory() as folder:
        pieces = vocab.train(words, Path(folder, "joint.model"), size=vocab_size)
    per_word = sum(len(pieces.encode(word)) for word in words[:1000]) / 1000
    lengths = [max(1, round(draw.gammavariate(4, 33 / 4) / per_word)) for _ in range(SAMPLED)]
    return [Pair(line, *(" ".join(draw.choices(words, k=k)) for _ in "st")) for line, k in enumerate(lengths)], pieces


def _table(stages: Sequence[Stage]) -> str:
    """Return the plan as text, with the whole run in its last row: times and disk added, the largest memory."""
    seconds, disk = sum(stage.seconds for stage in stages), sum(stage.disk for stage in stages)
    rows = [*stages, Stage("all", seconds, disk, max(stage.memory for stage in stages))]
    shown = [(row.name, timedelta(seconds=round(row.seconds)), row.disk / 1e6, row.memory / 1e6) for row in rows]
    aligned = ("left", "right", "right", "right")
    return tabulate(shown, headers=["stage", "time", "disk, MB", "memory, MB"], colalign=aligned, floatfmt=",.0f")


def _wide_table(
    stages: Sequence[Stage], params: Params, machines: int, *, bandwidth: float, gpu_rate: float | None
) -> str:
    """Return the plan as text: hours of each stage here, on several machines, on a GPU; the whole run; what it says."""
    rates = elsewhere.gpu_rates("bf16" if params.precision == "auto" else params.precision, gpu_rate)
    gpu = partial(elsewhere.gpu_seconds, rates=rates)
    together, many = elsewhere.on_machines(stages, params, machines, bandwidth)
    rows = [(row.name, row.seconds, many[row.name][0], gpu(row), row.disk, row.memory) for row in stages]
    on_gpus = elsewhere.whole_run(stages, params, 8, taken={stage.name: (gpu(stage), 1) for stage in stages})
    disk, memory = sum(stage.disk for stage in stages), max(stage.memory for stage in stages)
    rows.append(("all", sum(row[1] for row in rows), together, sum(row[3] for row in rows), disk, memory))
    hours = [(name, *(seconds / 3600 for seconds in times), row_disk / 1e6, row_memory / 1e6)
             for name, *times, row_disk, row_memory in rows]  # fmt: skip
    headers = ["stage", "h here", f"h on {machines}", "h, a GPU", "disk, MB", "memory, MB"]
    formats = ("", *[",.2f"] * 3, *[",.0f"] * 2)
    table = tabulate(hours, headers=headers, colalign=("left", *["right"] * 5), floatfmt=formats)
    rate = f"{gpu_rate:,.0f} target pieces/s in a 2x500 training, as stated" if gpu_rate else elsewhere.SOURCE
    advice = elsewhere.advice(stages, machines, bandwidth, taken=many)
    told = [
        f"On {machines} such machines the lines of a text are divided. {advice}",
        f"A GPU: {rate}; other networks by their weights. Eight GPUs, a stage on each: {on_gpus / 3600:,.2f} h in all.",
    ]
    return "\n".join([table, "", *(textwrap.fill(line, 100) for line in told)])
