"""Several one-thread processes training one network: weights and gradients in shared memory, each updates its slice."""

import os
import platform
import sys
import time
from collections.abc import Callable
from threading import BrokenBarrierError
from typing import Any

import torch
from torch import Tensor, nn
from torch import multiprocessing as processes

POLITE = 0.005  # seconds of waiting after which a process gives its core away
LOOK = 1.0  # seconds of waiting after which a process looks whether the others are still there
FAILED = -1 << 62
ORDERED = platform.machine().lower() in ("x86_64", "amd64")


class Team:
    """What the processes share. Every sum over them is taken in a fixed order, so a run repeats bit for bit."""

    def __init__(self, network: nn.Module, size: int) -> None:
        parameters = list(network.parameters())
        count = sum(parameter.numel() for parameter in parameters)
        self.size, self.rank = size, 0
        self.context: Any = processes.get_context("fork" if sys.platform == "linux" else "spawn")
        self.counts = self.shared(torch.zeros(size, dtype=torch.int64))  # meetings each process has come to
        like = parameters[0]
        self.weights = self.shared(torch.empty(count, dtype=like.dtype, device=like.device))
        self.gradients = self.shared(torch.zeros(size, count, dtype=like.dtype, device=like.device))
        self.sums, self.turn = self.shared(torch.zeros(2, size, 4, dtype=torch.float64)), 0
        self.others_live: Callable[[], bool] = lambda: True
        self.network, self.mine = network, list[Tensor]()
        with torch.no_grad():
            self.weights.copy_(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]))

    def shared(self, tensor: Tensor) -> Tensor:
        """The tensor, moved to memory that the processes to come will share."""
        return tensor.share_memory_() if self.size > 1 else tensor  # type: ignore[no-untyped-call]

    def join(self, rank: int) -> None:
        """Makes the network's parameters views of the shared ones, in this process."""
        self.rank, self.mine, at = rank, [], 0
        for parameter in self.network.parameters():
            view = slice(at, at + parameter.numel())
            parameter.data = self.weights[view].view(parameter.shape)
            self.mine.append(self.gradients[rank, view].view(parameter.shape))
            at += parameter.numel()

    def give(self) -> None:
        """Moves this process's gradients to where the others see them."""
        for parameter, place in zip(self.network.parameters(), self.mine, strict=True):
            if parameter.grad is None:
                place.zero_()
            else:
                place.copy_(parameter.grad)
            parameter.grad = None

    @property
    def slice(self) -> slice:
        """The share of the flat weights that this process updates."""
        count = self.weights.numel()
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def wait(self) -> None:
        """Returns when every process has come here; raises BrokenBarrierError when one has failed.

        Waits busily, for a semaphore's sleep and waking cost more than a small network's step; only a long wait gives
        the core away. A process's stores come before its count in the order that x86 keeps, and a sleep elsewhere.
        """
        if self.size == 1:
            return
        counts = self.counts.numpy()
        if not ORDERED:
            time.sleep(1e-4)
        counts[self.rank] = meeting = counts[self.rank] + 1
        began = time.monotonic()
        while (least := int(counts.min())) < meeting:
            waited = time.monotonic() - began
            if least < 0 or (waited > LOOK and not self.others_live()):
                raise BrokenBarrierError
            if waited > POLITE:
                time.sleep(0)

    def abandon(self) -> None:
        """Tells the others that this process has failed."""
        self.counts[self.rank] = FAILED

    def total(self, *values: float) -> list[float]:
        """The sums of up to four values over the processes, the same in each of them."""
        self.turn = 1 - self.turn  # two tables by turns: a fast process writes one while a slow one reads the other
        table = self.sums[self.turn, :, : len(values)]
        table[self.rank] = torch.tensor(values, dtype=torch.float64)
        self.wait()
        return table.sum(0).tolist()

    def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """work(team, *arguments) in every process; the value of the first, which is this one."""
        fellows = [
            self.context.Process(target=_fellow, args=(self, rank, work, arguments), daemon=True)
            for rank in range(1, self.size)
        ]
        for fellow in fellows:
            fellow.start()
        self.others_live = lambda: all(fellow.is_alive() for fellow in fellows)
        try:
            self.join(0)
            result = work(self, *arguments)
        except BrokenBarrierError:
            raise RuntimeError("A training process ended before its time; its message stands above.") from None
        finally:
            if sys.exc_info()[0] is not None:
                self.abandon()
            for fellow in fellows:
                fellow.join(timeout=10)
                fellow.kill()
        return result


def _fellow(team: Team, rank: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    parent = os.getppid()
    team.others_live = lambda: os.getppid() == parent
    try:
        team.join(rank)
        work(team, *arguments)
    except BrokenBarrierError:
        os._exit(1)  # the one who failed tells why
    except BaseException:
        team.abandon()
        raise
