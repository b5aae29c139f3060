"""Several one-thread processes training one network: weights and gradients in shared memory, each updates its slice."""

import os
import sys
from collections.abc import Callable
from threading import BrokenBarrierError
from typing import Any

import torch
from torch import Tensor, nn
from torch import multiprocessing as processes

STALL = 600.0  # seconds without a sign of a fellow before a process gives up


class Team:
    """What the processes share. Every sum over them is taken in a fixed order, so a run repeats bit for bit."""

    def __init__(self, network: nn.Module, size: int) -> None:
        parameters = list(network.parameters())
        count = sum(parameter.numel() for parameter in parameters)
        self.size, self.rank = size, 0
        self.context: Any = processes.get_context("fork" if sys.platform == "linux" else "spawn")
        self.barrier = self.context.Barrier(size) if size > 1 else None
        like = parameters[0]
        self.weights = self.shared(torch.empty(count, dtype=like.dtype, device=like.device))
        self.gradients = self.shared(torch.zeros(size, count, dtype=like.dtype, device=like.device))
        self.sums = self.shared(torch.zeros(size, 4, dtype=torch.float64))
        self.network = network
        with torch.no_grad():
            self.weights.copy_(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]))

    def shared(self, tensor: Tensor) -> Tensor:
        """The tensor, moved to memory that the processes to come will share."""
        return tensor.share_memory_() if self.size > 1 else tensor  # type: ignore[no-untyped-call]

    def join(self, rank: int) -> None:
        """Makes the network's parameters and gradients views of the shared ones, in this process."""
        self.rank, at = rank, 0
        for parameter in self.network.parameters():
            view = slice(at, at + parameter.numel())
            parameter.data = self.weights[view].view(parameter.shape)
            parameter.grad = self.gradients[rank, view].view(parameter.shape)
            at += parameter.numel()

    @property
    def slice(self) -> slice:
        """The share of the flat weights that this process updates."""
        count = self.weights.numel()
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.barrier is not None:
            self.barrier.wait(STALL)

    def total(self, *values: float) -> list[float]:
        """The sums of up to four values over the processes, the same in each of them."""
        self.wait()
        self.sums[self.rank, : len(values)] = torch.tensor(values, dtype=torch.float64)
        self.wait()
        return self.sums[:, : len(values)].sum(0).tolist()

    def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """work(team, *arguments) in every process; the value of the first, which is this one."""
        fellows = [
            self.context.Process(target=_fellow, args=(self, rank, work, arguments), daemon=True)
            for rank in range(1, self.size)
        ]
        for fellow in fellows:
            fellow.start()
        try:
            self.join(0)
            result = work(self, *arguments)
        except BrokenBarrierError:
            raise RuntimeError("A training process ended before its time; its message stands above.") from None
        finally:
            if self.barrier is not None and sys.exc_info()[0] is not None:
                self.barrier.abort()
            for fellow in fellows:
                fellow.join(timeout=10)
                fellow.kill()
        return result


def _fellow(team: Team, rank: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    try:
        team.join(rank)
        work(team, *arguments)
    except BrokenBarrierError:
        os._exit(1)  # the one who failed tells why
    except BaseException:
        if team.barrier is not None:
            team.barrier.abort()
        raise
