"""CUDA graphs: capture work once and replay it, without the cost of launching its thousand kernels from Python."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

LENGTH_MULTIPLE = 4  # a batch's source and target are padded to a multiple of this, so that shapes repeat


def capture(work: Callable[[], object], *, pool: Any) -> Callable[[], object]:
    """Return work captured as a CUDA graph, which reads and writes the same memory at every replay.

    pool: the memory pool of the graphs; None where there is no GPU, and work is returned as it is.
    """
    if pool is None:
        return work
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # a first run, for libraries allocate what they may not during a capture
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with gc_paused(), torch.cuda.graph(graph, pool=pool):
        work()
    return graph.replay


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause Python's garbage collector: an older graph that it freed during a capture would break the new one."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
