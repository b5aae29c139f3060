"""Two processes beside one: decoding, scoring and training, and what a neighbour that never rests takes from them."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import selection as scoring
from benchmarks.engine import PRECISIONS, SIZE, updates
from benchmarks.material import ONE, Material
from benchmarks.rows import Row, alternate
from benchmarks.settings import Settings
from seqkd.decoding import translator
from seqkd.decoding.translator import DecodingJob
from seqkd.evaluation import metrics
from seqkd.ops.matmul import Precision
from seqkd.selection import select
from seqkd.utils import pool
from seqkd.utils.errors import InputError

ALONE, BESIDE = "two processes", "two beside a neighbour"
FAIR = 4 / 3  # of one core's work: three busy processes on two cores leave two of them so much


def run(settings: Settings) -> list[Row]:
    settings.unpin()
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < 2:
        raise InputError("This machine gives the benchmark one core; two processes are measured on two.")
    material = settings.material()
    return [*decoding(settings, material), *choosing(settings, material), *training(settings, material)]


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that keeps a core busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def compared(work: str, unit: str, measure: Callable[[int], float], *, rounds: int, aim: float) -> list[Row]:
    """Two processes against one, alone and beside a neighbour; measure: processes -> rate."""

    def crowded() -> float:
        with neighbour():
            return measure(2)

    variants: dict[str, Callable[[], float]] = {"one": partial(measure, 1), ALONE: partial(measure, 2), BESIDE: crowded}
    for variant in (variants["one"], variants[ALONE]):
        variant()
    found = alternate(variants, rounds)
    fair = f"fair is {FAIR:.2f}: three busy processes on two cores"
    return [
        Row(f"{work}, {ALONE}", unit, found[ALONE], "one process", found["one"], aim=aim),
        Row(f"{work}, {BESIDE}", unit, found[BESIDE], "one process", found["one"], note=fair),
    ]


def decoding(settings: Settings, material: Material) -> list[Row]:
    folder, sources = material.model_folder(SIZE), material.sources[: 50 * settings.updates]

    def measure(count: int) -> float:
        jobs = [
            DecodingJob(folder, ONE, 5, precision="bf16", sources=sources[at : at + 25])
            for at in range(0, len(sources), 25)
        ]
        began = time.perf_counter()
        for _ in pool.map_ordered(translator.run, jobs, processes=count):
            pass
        return len(sources) / (time.perf_counter() - began)

    return compared(f"{SIZE} beam 5, bf16", "sentences/s", measure, rounds=settings.rounds, aim=1.8)


def choosing(settings: Settings, material: Material) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        pairs = scoring.write(Path(name), material, lines=400 * settings.updates)
        parts = list(select.parts(Path(name), pairs, lines=len(pairs)))
        model = material.folder / "joint.model"
        choose = partial(select.choose, model=model, settings=scoring.BLEU, tokenizer=metrics.DEFAULT)

        def measure(count: int) -> float:
            began = time.perf_counter()
            chosen = sum(len(texts) for texts, _ in pool.map_ordered(choose, parts, processes=count))
            return scoring.HYPOTHESES * chosen / (time.perf_counter() - began)

        return compared("selection", "hypotheses/s", measure, rounds=settings.rounds, aim=1.8)


def training(settings: Settings, material: Material) -> list[Row]:
    network, optim = material.network(SIZE), material.optim(SIZE)
    long, short = material.some(settings.updates + 2), material.some(2)
    rows: list[Row] = []
    for precision in PRECISIONS:

        def measure(count: int, precision: Precision = precision) -> float:
            return updates(network, (long, short), optim, precision=precision, processes=count, clock=time.perf_counter)

        work = f"{SIZE} training, {precision}"
        rows += compared(work, "target words/s", measure, rounds=settings.rounds, aim=1.6)
    return rows
