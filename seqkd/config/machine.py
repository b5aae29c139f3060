"""machine.yaml as a frozen record."""

import os
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from seqkd.config import old_names
from seqkd.config.old_names import OldNames
from seqkd.config.records import Name, Positive, Record
from seqkd.utils.cluster import Cluster


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Command(Record):
    """How this machine starts the program of a teacher of kind command. No shell reads it."""

    argv: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]  # the program and its arguments
    batch: Positive = 100  # lines that it gets at once
    time_limit: Annotated[float, Field(gt=0)] = 120.0  # seconds for a batch
    memory_limit: Positive = 4000  # MB of the program and its children


class Machine(Record):
    """machine.yaml: what describes this machine and changes no result's meaning. Without the file: all cores."""

    renamed: ClassVar[OldNames] = old_names.MACHINE
    processes: Annotated[int, Field(ge=1, le=1024)] = Field(default_factory=_cores)  # of one thread each
    checkpoint_interval: Annotated[float, Field(ge=0)] = 50.0  # seconds of training that a kill may cost
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # The GEMM on a CPU; auto: seqkd's own. The recurrent steps of a training always use that one. torch: searches
    # multiply floats, also those of a model whose weights are int8.
    matmul_backend: Literal["auto", "own", "torch"] = "auto"
    max_batch_hypotheses: Positive = 1500  # in one process's beam search at once; on a GPU up to ten times as many
    commands: dict[Name, Command] = Field(default_factory=dict)  # by the name of a teacher of kind command
    cluster: Annotated[str, Field(min_length=1)] | None = None  # a Dask scheduler (tcp://host:8786) or scheduler file
    mixed: bool = False  # other machines may have another version or processor; the last bits then differ
    # What starts `-m seqkd STAGE` on all machines that train together, such as torchrun --nnodes 4 ...; None: alone.
    torchrun: Annotated[str, Field(min_length=1)] | None = None
    allow_download: bool = False  # a teacher of kind transformers may fetch its model by name

    @property
    def workers(self) -> Cluster | None:
        """Return the cluster, if there is one."""
        return Cluster(self.cluster, self.mixed) if self.cluster else None

    def __hash__(self) -> int:
        return hash(repr(self))  # a dict has none
