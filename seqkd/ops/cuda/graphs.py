"""CUDA graphs: capture work once and replay it, without the cost of launching its thousand kernels from Python."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

STREAM_WARNING_SWITCH = "set_warn_on_accumulate_grad_stream_mismatch"
MEMORY_SHARE = 0.25  # of a GPU's memory, for the gradients of the weights, which every graph of a training holds
LENGTH_MULTIPLE = 4  # source and target of a batch are padded to a multiple of this, so that shapes repeat


def capture(work: Callable[[], object], *, pool: Any) -> Callable[[], object]:
    """Capture work as a CUDA graph and return its replay, which reads and writes the same memory every time.

    pool: the graphs' memory pool; None where there is no GPU: work itself is returned.
    """
    if pool is None:
        return work
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # a first run outside the capture, in which libraries may allocate
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with _gc_paused(), torch.cuda.graph(graph, pool=pool):
        work()
    return graph.replay


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Pause Python's garbage collector: if it freed an older graph during a capture, the new graph would be broken."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _ForwardWithMasks(nn.Module):
    """A network's pass over a batch without the drawing of dropout, which a replay would repeat."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, source: Tensor, target: Tensor, *dropout_masks: Tensor) -> Any:
        return self.network.forward_with_masks(source, target, *dropout_masks)


class GraphedForward:
    """A network's forward and backward pass over a batch as CUDA graphs, one for each shape of a batch.

    Before a new shape comes, nothing computed from an earlier pass may be alive: torch keeps a weight's node of the
    autograd graph for it.
    """

    def __init__(self, network: Any, batch: int) -> None:
        """network: an LSTMNetwork on a GPU; batch: the number of sentences of a batch that is captured."""
        self.network, self.batch_size = network, batch
        self.graphs: dict[tuple[int, int], Callable[..., Tensor]] = {}
        size = sum(weight.numel() * weight.element_size() for weight in network.parameters())
        self.max_graphs = (
            int(MEMORY_SHARE * torch.cuda.get_device_properties(network.output.device).total_memory) // size
        )
        self.pool = torch.cuda.graph_pool_handle()
        if hasattr(torch.autograd.graph, STREAM_WARNING_SWITCH):  # a graph's gradients arrive on its own stream
            getattr(torch.autograd.graph, STREAM_WARNING_SWITCH)(False)

    def __call__(self, source: Tensor, target: Tensor, generator: torch.Generator | None = None) -> Any:
        """Return the network's forward pass, replayed if the batch's shape is captured or can be."""
        inputs = (source, target, *self.network.sample_dropout(source, target, generator))
        shape = len(source), len(target)
        full = len(self.graphs) >= self.max_graphs and shape not in self.graphs
        if full or source.shape[1] != self.batch_size:  # or the last batch of an epoch
            return self.network.forward_with_masks(*inputs)
        if shape not in self.graphs:
            settings: dict[str, Any] = {"num_warmup_iters": 1, "allow_unused_input": True, "pool": self.pool}
            with _gc_paused():
                graphed: Any = torch.cuda.make_graphed_callables(_ForwardWithMasks(self.network), inputs, **settings)
            self.graphs[shape] = graphed
        return self.graphs[shape](*inputs)
