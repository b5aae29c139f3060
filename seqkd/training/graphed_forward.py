"""CUDA graphs of a network's forward and backward pass: captured once for each shape of a batch, then replayed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seqkd.models.interface import Network
from seqkd.ops.cuda import graphs

MEMORY_SHARE = 0.25  # of the GPU, for the gradients of the weights, of which each captured graph holds its own
STREAM_WARNING = "set_warn_on_accumulate_grad_stream_mismatch"


class _ForwardWithMasks(nn.Module):
    """The forward pass with dropout masks as inputs: a graph that drew them would repeat the same ones."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, source: Tensor, target: Tensor, *dropout_masks: Tensor) -> Tensor:
        return self.network.forward_with_masks(source, target, *dropout_masks)


class GraphedForward:
    """Network.forward, with its backward pass, as CUDA graphs for batches of batch_size sentences.

    All that was computed from an earlier pass must be deleted before the next call: a graph cannot be captured while
    another autograd graph holds the weights.
    """

    def __init__(self, network: Network, batch_size: int) -> None:
        self.network, self.batch_size = network, batch_size
        self.captured: dict[tuple[int, int], Callable[..., Tensor]] = {}  # (S, T): source and target length
        size = sum(weight.numel() * weight.element_size() for weight in network.parameters())
        memory = torch.cuda.get_device_properties(network.device).total_memory
        self.max_graphs = int(MEMORY_SHARE * memory) // size
        self.pool = torch.cuda.graph_pool_handle()
        if hasattr(torch.autograd.graph, STREAM_WARNING):  # gradients arrive on the stream of the capture, as they may
            getattr(torch.autograd.graph, STREAM_WARNING)(False)

    def __call__(self, source: Tensor, target: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return what network(source, target, generator) returns; (S, B), (T, B) -> (T, B, H)."""
        inputs = (source, target, *self.network.sample_dropout(source, target, generator))
        lengths = len(source), len(target)
        full = len(self.captured) >= self.max_graphs and lengths not in self.captured
        if full or source.shape[1] != self.batch_size:  # the last batch of an epoch may be smaller
            return self.network.forward_with_masks(*inputs)
        if lengths not in self.captured:
            self.captured[lengths] = self._capture(inputs)
        return self.captured[lengths](*inputs)

    def _capture(self, inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
        settings: dict[str, Any] = {"num_warmup_iters": 1, "allow_unused_input": True, "pool": self.pool}
        with graphs.gc_paused():
            captured: Any = torch.cuda.make_graphed_callables(_ForwardWithMasks(self.network), inputs, **settings)
        return captured  # type: ignore[no-any-return]
