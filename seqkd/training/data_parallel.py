"""One-thread processes training one network in shares: the same bits, however many processes work through them."""

import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection
from threading import BrokenBarrierError
from typing import Any

import torch
from torch import Tensor, nn
from torch import multiprocessing as processes

from seqkd.utils import process_control
from seqkd.utils.errors import InputError, StoppedError

SPIN_SECONDS = 0.005  # seconds of waiting after which a process gives its core away
POLL_SECONDS = 1.0  # seconds of waiting after which the first process looks whether the others are still there
GRACE_SECONDS = 5.0  # seconds after which it ends without one that is gone, whatever it is at
WORKER_KILLED = (
    "a training process was killed, perhaps for want of memory; run the command again: it goes on from the last saved"
    " state."
)
FAILED = -1 << 62
ORDERED = platform.machine().lower() in ("x86_64", "amd64")


class DataParallelGroup:
    """What the processes share.

    A batch and the weights are cut into a fixed number of shares, which the processes, never more than these, take in
    turn. Every sum over shares is taken in their order: so neither the number of processes nor chance changes a bit.
    """

    def __init__(self, network: nn.Module, size: int, *, shards: int = 1) -> None:
        parameters = list(network.parameters())
        count = sum(parameter.numel() for parameter in parameters)
        self.shards, self.size, self.rank = shards, min(size, shards), 0
        self.context: Any = processes.get_context("fork" if sys.platform == "linux" else "spawn")
        self.counts = self.shared(torch.zeros(self.size, dtype=torch.int64))  # meetings each process has come to
        like = parameters[0]
        self.weights = self.shared(torch.empty(count, dtype=like.dtype, device=like.device))
        self.gradients = self.shared(torch.zeros(shards, count, dtype=like.dtype, device=like.device))
        self.sums, self.buffer_index = self.shared(torch.zeros(2, shards, 4, dtype=torch.float64)), 0
        self.others_live: Callable[[], bool] = _unwatched
        self.network, self.places = network, dict[int, list[Tensor]]()
        with torch.no_grad():
            self.weights.copy_(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]))

    @property
    def local_shards(self) -> range:
        """The shares that this process works through."""
        return range(self.rank, self.shards, self.size)

    def shared(self, tensor: Tensor) -> Tensor:
        """The tensor, moved to memory that the processes to come will share. Raises InputError for want of room."""
        try:
            return tensor.share_memory_() if self.size > 1 else tensor  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if "shared memory" not in str(error):
                raise
            raise InputError(
                f"no room in shared memory for {tensor.nbytes / 1e6:.0f} MB more; enlarge /dev/shm (docker run"
                " --shm-size), or write processes: 1 in machine.yaml."
            ) from None

    def join(self, rank: int) -> None:
        """Makes the network's parameters views of the shared ones, in this process."""
        self.rank = rank
        for parameter, place in zip(self.network.parameters(), self._places(self.weights), strict=True):
            parameter.data = place
        self.places = {share: self._places(self.gradients[share]) for share in self.local_shards}

    def _places(self, flat: Tensor) -> list[Tensor]:
        """The network's parameters as views of one row of numbers."""
        parameters = list(self.network.parameters())
        pieces = torch.split(flat, [parameter.numel() for parameter in parameters])
        return [piece.view(parameter.shape) for piece, parameter in zip(pieces, parameters, strict=True)]

    def publish_gradients(self, share: int) -> None:
        """Moves the network's gradients, of that share of a batch, to where all processes see them."""
        for parameter, place in zip(self.network.parameters(), self.places[share], strict=True):
            if parameter.grad is None:
                place.zero_()
            else:
                place.copy_(parameter.grad)
            parameter.grad = None

    def slice(self, share: int) -> slice:
        """That share of the flat weights."""
        count = self.weights.numel()
        return slice(count * share // self.shards, count * (share + 1) // self.shards)

    def barrier(self) -> None:
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
            if least < 0 or (waited > POLL_SECONDS and not self.others_live()):
                raise BrokenBarrierError
            if waited > SPIN_SECONDS:
                time.sleep(0)

    def mark_failed(self) -> None:
        """Tells the others that this process has failed."""
        self.counts[self.rank] = FAILED

    def all_reduce(self, *columns: Sequence[float]) -> list[float]:
        """The sums over all shares, the same in every process, of up to four columns: a value each of `mine`."""
        self.buffer_index = (
            1 - self.buffer_index
        )  # two tables by turns: a fast process writes one while a slow one reads the other
        table = self.sums[self.buffer_index, :, : len(columns)]
        table[self.rank :: self.size] = torch.tensor(columns, dtype=torch.float64).t()
        self.barrier()
        return table.sum(0).tolist()

    def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """work(team, *arguments) in every process; the value of the first, which is this one.

        Raises InputError where another process was killed.
        """
        fellows = [
            self.context.Process(target=_run_worker, args=(self, rank, work, arguments), daemon=True)
            for rank in range(1, self.size)
        ]
        for fellow in fellows:
            fellow.start()
        self.others_live, ended = lambda: all(fellow.is_alive() for fellow in fellows), threading.Event()
        if fellows:
            given = [fellow.sentinel for fellow in fellows], ended
            threading.Thread(target=_exit_without_workers, args=given, daemon=True).start()
        try:
            self.join(0)
            result = work(self, *arguments)
        except BrokenBarrierError:
            if any((fellow.exitcode or 0) < 0 for fellow in fellows):
                raise InputError(WORKER_KILLED) from None
            raise RuntimeError("A training process ended before its time; its message stands above.") from None
        finally:
            ended.set()
            if sys.exc_info()[0] is not None:
                self.mark_failed()
            for fellow in fellows:
                fellow.join(timeout=5)
                fellow.kill()
        return result


def _unwatched() -> bool:
    return True


def _exit_without_workers(fellows: list[int], ended: threading.Event) -> None:
    """Ends this process when another one is gone and it does not notice, as while it compiles for half a minute."""
    connection.wait(fellows)
    if not ended.wait(GRACE_SECONDS):
        print(WORKER_KILLED, file=sys.stderr, flush=True)
        os._exit(1)


def _run_worker(team: DataParallelGroup, rank: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    process_control.exit_with_parent()
    try:
        team.join(rank)
        work(team, *arguments)
    except (BrokenBarrierError, InputError, StoppedError):
        os._exit(1)  # the one who failed tells why, and the first process what all of them saw
    except BaseException:
        team.mark_failed()
        raise
