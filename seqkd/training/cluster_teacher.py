"""The teacher's top-k targets, computed by a cluster's workers before a training begins."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from seqkd.config.machine import Machine
from seqkd.data.batches import TokenizedCorpus
from seqkd.models import checkpoint
from seqkd.models.interface import Network
from seqkd.ops import devices
from seqkd.ops.matmul import Precision
from seqkd.training.teacher import LINES_PER_FILE, TopKCache, TopKTargets, file_path, write_file
from seqkd.utils import cluster, pool
from seqkd.utils.cluster import SharedWork
from seqkd.utils.progress import Progress


class FileJob(NamedTuple):
    """One file of top-k targets, for a worker that has neither the text nor the teacher."""

    teacher: Path
    machine: Machine
    precision: Precision
    top_k: int
    first: int  # row of the text
    lines: TokenizedCorpus  # those of the file


def write(teacher: Path, cache: TopKCache, text: TokenizedCorpus, *, machine: Machine, precision: Precision) -> None:
    """Write the files that are missing, with the bytes that TopKTargets.precompute gives them.

    Raise InputError as cluster.map_ordered does.
    """
    assert machine.workers is not None, "without a cluster the training's processes compute the files"
    missing, done = list[FileJob](), 0
    for first in range(0, len(text), LINES_PER_FILE):
        lines = text.part(slice(first, first + LINES_PER_FILE))
        if file_path(cache, first).exists():
            done += len(lines)
        else:
            missing.append(FileJob(teacher, devices.of_workers(machine), precision, cache.top_k, first, lines))
    if not missing:
        return
    shared = SharedWork(machine.workers, [teacher], describe=_described)
    with Progress(len(text), unit="sentences", label=f"distribution of {teacher.name}", done=done) as progress:
        for job, file in zip(missing, cluster.map_ordered(compute, missing, shared), strict=True):
            write_file(file_path(cache, job.first), file)
            progress.add(len(job.lines))


def compute(job: FileJob) -> dict[str, Tensor]:
    """Return what a file holds; the teacher is loaded once in each process."""
    network = _load(job.teacher, devices.configure(job.machine, job.precision))
    return TopKTargets(network, job.lines, TopKCache(job.top_k, Path())).compute_file(0)


@pool.loaded_once
def _load(folder: Path, device: torch.device) -> Network:
    return checkpoint.load(folder, device).network


def _described(job: FileJob) -> str:
    return f"the teacher's targets of lines {job.first + 1:,} to {job.first + len(job.lines):,}"
