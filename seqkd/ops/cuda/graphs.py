"""Work on a GPU that is recorded once and replayed: Python, which starts each of its thousand kernels, is slower."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from seqkd.models.lstm import LSTMNetwork

WARNS = "set_warn_on_accumulate_grad_stream_mismatch"
SHARE = 0.25  # of a GPU's memory for the gradients of the weights, which every record of a training holds
LENGTH_MULTIPLE = 4  # a batch's source and target are padded to a multiple of this, so that shapes come again


def capture(work: Callable[[], object], *, pool: Any) -> Callable[[], object]:
    """work, recorded on a GPU: it reads and writes the same memory every time. pool: None where there is no GPU."""
    if pool is None:
        return work
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries make ready what may not be made while recording
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with _gc_paused(), torch.cuda.graph(graph, pool=pool):
        work()
    return graph.replay


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Python's collector stands still: an older record that it threw away would break the new one."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _ForwardWithMasks(nn.Module):
    """The network's pass over a batch, apart from the drawing of dropout, which a record would repeat."""

    def __init__(self, network: LSTMNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, source: Tensor, target: Tensor, *keeps: Tensor) -> Tensor:
        return self.network.forward_with_masks(source, target, *keeps)


class GraphedForward:
    """Network.forward and its backward for batches of so many sentences, recorded for each shape that comes.

    By then what was computed from an earlier pass must be let go of: torch keeps a weight's place in the graph for it.
    """

    def __init__(self, network: LSTMNetwork, batch: int) -> None:
        self.network, self.batch_size = network, batch
        self.recorded: dict[tuple[int, int], Callable[..., Tensor]] = {}
        size = sum(weight.numel() * weight.element_size() for weight in network.parameters())
        self.most = int(SHARE * torch.cuda.get_device_properties(network.output.device).total_memory) // size
        self.pool = torch.cuda.graph_pool_handle()
        if hasattr(torch.autograd.graph, WARNS):  # of a record's own stream, on which a weight's gradient then arrives
            getattr(torch.autograd.graph, WARNS)(False)

    def __call__(self, source: Tensor, target: Tensor, generator: torch.Generator | None = None) -> Tensor:
        given = (source, target, *self.network.sample_dropout(source, target, generator))
        shape = len(source), len(target)
        full = len(self.recorded) >= self.most and shape not in self.recorded
        if full or source.shape[1] != self.batch_size:  # or the last batch of an epoch
            return self.network.forward_with_masks(*given)
        if shape not in self.recorded:
            settings: dict[str, Any] = {"num_warmup_iters": 1, "allow_unused_input": True, "pool": self.pool}
            with _gc_paused():
                recorded: Any = torch.cuda.make_graphed_callables(_ForwardWithMasks(self.network), given, **settings)
            self.recorded[shape] = recorded
        return self.recorded[shape](*given)
