"""Data-parallel training on the cores of one machine, or of several (`ranks.py`).

Its all-reduce gives bits that depend neither on the number of processes nor on that of machines.
"""

import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import connection
from threading import BrokenBarrierError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, multiprocessing, nn

from seqkd.training.ranks import ALONE, Parts, Ranks
from seqkd.utils import process_control
from seqkd.utils.errors import InputError, StoppedError

SPIN_SECONDS = 0.005  # after which a process that waits at a barrier offers its core to others
POLL_SECONDS = 1.0  # after which the first process, waiting at a barrier, checks that the workers are alive
GRACE_SECONDS = 5.0  # after which the first process exits when a worker is gone, whatever it is doing
WORKER_KILLED = (
    "a training process was killed, perhaps because memory ran out; run the command again: it resumes from the last"
    " checkpoint."
)
FAILED = -1 << 62  # the barrier count of a process that has failed
START_METHOD = "fork" if sys.platform == "linux" else "spawn"  # elsewhere the system's libraries survive no fork
STORES_IN_ORDER = platform.machine().lower() in ("x86_64", "amd64")  # other processors may reorder a process's stores
MAX_COLUMNS = 4  # of one all_reduce


class DataParallelGroup:
    """The processes of one training on this machine, the memory that they share, and the ranks on other machines.

    Each batch and the flat weights are split into a fixed number of shards. Rank r of R has the shards r, r + R, ...,
    and its processes share them in the same way. Every sum over shards is taken in shard order, so the bits depend
    neither on the number of processes and ranks, which never exceeds the number of shards, nor on timing.

    A rank has all weights, but of the gradients and of Adam's moments only what its shards need is up to date.
    """

    def __init__(self, network: nn.Module, size: int, *, shards: int = 1, ranks: Ranks = ALONE) -> None:
        parameters = list(network.parameters())
        count, like = sum(parameter.numel() for parameter in parameters), parameters[0]
        self.network, self.shards, self.ranks = network, shards, ranks
        self.local_rank, self.local_world_size = 0, min(size, len(self.shards_of(ranks.rank)))
        self.context: Any = multiprocessing.get_context(START_METHOD)
        self.fence: AbstractContextManager[Any] = nullcontext() if STORES_IN_ORDER else self.context.Lock()
        self.arrivals = self.shared(torch.zeros(self.local_world_size, dtype=torch.int64))  # barriers each has reached
        self.weights = self.shared(torch.empty(count, dtype=like.dtype, device=like.device))
        self.gradients = self.shared(torch.zeros(shards, count, dtype=like.dtype, device=like.device))
        # Two buffers in turn: a fast process may fill the next one while a slow one still reads the last.
        self.reduce_buffers = self.shared(torch.zeros(2, shards, MAX_COLUMNS, dtype=torch.float64))
        self.flag_buffers = self.shared(torch.zeros(2, dtype=torch.int64))
        self.buffer_index = self.next_flag = self.flag = 0
        self.workers_alive: Callable[[], bool] = _no_workers_to_watch
        self.gradient_views: dict[int, list[Tensor]] = {}
        with torch.no_grad():
            self.weights.copy_(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]))

    def shards_of(self, rank: int) -> range:
        """Return the shards of a rank, which its processes share."""
        return range(rank, self.shards, self.ranks.world_size)

    @property
    def local_shards(self) -> range:
        """The shards that this process works on."""
        return self.shards_of(self.ranks.rank)[self.local_rank :: self.local_world_size]

    @property
    def is_main(self) -> bool:
        """Whether this process is the one of all machines that writes, and tells how the training goes."""
        return self.ranks.rank == 0 and self.local_rank == 0

    def weight_slice(self, shard: int) -> slice:
        """Return where a shard of the flat weights lies."""
        count = self.weights.numel()
        return slice(count * shard // self.shards, count * (shard + 1) // self.shards)

    def shared(self, tensor: Tensor) -> Tensor:
        """Move a tensor to memory that all processes will share. Raises InputError where there is too little of it."""
        try:
            return tensor.share_memory_() if self.local_world_size > 1 else tensor  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if "shared memory" not in str(error):
                raise
            raise InputError(
                f"shared memory has no space for {tensor.nbytes / 1e6:.0f} MB more; enlarge /dev/shm (docker run"
                " --shm-size), or write processes: 1 in machine.yaml."
            ) from None

    def attach_parameters(self, local_rank: int) -> None:
        """Make the network's parameters, in this process, views of the shared flat weights."""
        self.local_rank = local_rank
        for parameter, view in zip(self.network.parameters(), self._parameter_views(self.weights), strict=True):
            parameter.data = view
        self.gradient_views = {shard: self._parameter_views(self.gradients[shard]) for shard in self.local_shards}

    def _parameter_views(self, flat: Tensor) -> list[Tensor]:
        """Split flat, (parameters,), into views of the shapes of the network's parameters."""
        parameters = list(self.network.parameters())
        pieces = torch.split(flat, [parameter.numel() for parameter in parameters])
        return [piece.view(parameter.shape) for piece, parameter in zip(pieces, parameters, strict=True)]

    def publish_gradients(self, shard: int) -> None:
        """Copy the network's gradients, computed from that shard of a batch, into shared memory; then clear them."""
        for parameter, view in zip(self.network.parameters(), self.gradient_views[shard], strict=True):
            if parameter.grad is None:
                view.zero_()
            else:
                view.copy_(parameter.grad)
            parameter.grad = None

    def exchange_gradients(self) -> None:
        """Return when the gradients of all shards are published, and here for all slices of this rank."""

        def published(shards: range, slices: range) -> list[Tensor]:
            return [self.gradients[shard, self.weight_slice(each)] for shard in shards for each in slices]

        mine = self.shards_of(self.ranks.rank)
        self._among_ranks(
            lambda: self.ranks.exchange(
                lambda rank: published(mine, self.shards_of(rank)), lambda rank: published(self.shards_of(rank), mine)
            )
        )

    def gather_slices(self, *flat: Tensor) -> None:
        """Return when every process has updated its slices of tensors like the flat weights; fetch the other ranks'."""

        def owned(rank: int) -> list[Tensor]:
            return [tensor[self.weight_slice(shard)] for tensor in flat for shard in self.shards_of(rank)]

        self._among_ranks(lambda: self.ranks.gather(owned))

    def gather_rows(self, table: Tensor) -> None:
        """Return when every process has written its shards' rows of a table, (shards, ...); fetch the other ranks'."""
        self._among_ranks(lambda: self.ranks.gather(lambda rank: [table[shard] for shard in self.shards_of(rank)]))

    def barrier_of_ranks(self) -> None:
        """Return when every process of every rank has reached this barrier."""
        self._among_ranks(self.ranks.barrier)

    def gather(self, owned: Parts) -> None:
        """Return when every process has written its parts; fetch the other ranks', which owned(rank) names."""
        self._among_ranks(lambda: self.ranks.gather(owned))

    def _among_ranks(self, collective: Callable[[], None]) -> None:
        """Wait for this machine's processes; where there are other ranks, let one of them take part in a collective."""
        self.barrier()
        if self.ranks.world_size > 1:
            if self.local_rank == 0:
                collective()
            self.barrier()

    def barrier(self) -> None:
        """Return when every process of this machine has reached this barrier.

        Raises BrokenBarrierError when one has failed.

        It waits busily, because to sleep on a semaphore and wake up costs more than an update of a small network. All
        that a process stored before the barrier must be visible to the others after it. On x86 stores become visible
        in order, so a process that sees the new count sees the rest too; elsewhere the fence ensures that.
        """
        if self.local_world_size == 1:
            return
        arrivals = self.arrivals.numpy()
        with self.fence:
            arrived = arrivals[self.local_rank] = int(arrivals[self.local_rank]) + 1
        began = time.monotonic()
        while (slowest := self._slowest(arrivals)) < arrived:
            waited = time.monotonic() - began
            if slowest < 0 or (waited > POLL_SECONDS and not self.workers_alive()):
                raise BrokenBarrierError
            if waited > SPIN_SECONDS:
                time.sleep(0)

    def _slowest(self, arrivals: NDArray[np.int64]) -> int:
        with self.fence:
            return int(min(arrivals.tolist()))  # six times as fast as numpy's own minimum of so few

    def mark_failed(self) -> None:
        """Tell the other processes, waiting at a barrier, that this one has failed."""
        self.arrivals[self.local_rank] = FAILED

    def all_reduce(self, *columns: Sequence[float]) -> list[float]:
        """Return the sums of up to four columns over all shards, bitwise the same in every process.

        Each column holds one value for each of this process's local_shards. The ranks' flags travel along.
        """
        self.buffer_index = 1 - self.buffer_index
        table = self.reduce_buffers[self.buffer_index, :, : len(columns)]
        shards = self.local_shards
        table[shards.start : shards.stop : shards.step] = torch.tensor(columns, dtype=torch.float64).t()
        flags = self.flag_buffers.numpy()
        if self.local_rank == 0:
            flags[self.buffer_index], self.next_flag = self.next_flag, 0
        self._among_ranks(lambda: self._reduce_among_ranks(table, flags))
        self.flag = int(flags[self.buffer_index])
        return table.sum(0).tolist()

    def _reduce_among_ranks(self, table: Tensor, flags: NDArray[np.int64]) -> None:
        """Fetch the other ranks' rows of a table, (shards, columns), and the largest flag of all ranks."""
        mine, rank = list(self.shards_of(self.ranks.rank)), self.ranks.rank
        sparse, sent = torch.zeros_like(table), torch.zeros(self.ranks.world_size, dtype=table.dtype)
        sparse[mine], sent[rank] = table[mine], int(flags[self.buffer_index])
        values = torch.cat((sparse.flatten(), sent))
        self.ranks.sum_sparse(values)
        table.copy_(values[: table.numel()].view(table.shape))
        flags[self.buffer_index] = int(values[table.numel() :].max())

    def broadcast_flag(self, flag: int) -> None:
        """Send a number from a rank to every process with the next all_reduce, without a barrier of its own.

        After that all_reduce the largest of the ranks' numbers stands in `flag`, where no number sent means 0. What a
        rank's other processes send is ignored.
        """
        self.next_flag = flag

    def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call work(group, *arguments) in every process of this machine and return the result of this one.

        Raises InputError where another process was killed.
        """
        workers = [
            self.context.Process(target=_run_worker, args=(self, local_rank, work, arguments), daemon=True)
            for local_rank in range(1, self.local_world_size)
        ]
        for worker in workers:
            worker.start()
        self.workers_alive, finished = lambda: all(worker.is_alive() for worker in workers), threading.Event()
        if workers:
            watched = [worker.sentinel for worker in workers], finished
            threading.Thread(target=_exit_without_workers, args=watched, daemon=True).start()
        try:
            self.attach_parameters(0)
            return work(self, *arguments)
        except BrokenBarrierError:
            if any((worker.exitcode or 0) < 0 for worker in workers):
                raise InputError(WORKER_KILLED) from None
            raise RuntimeError("A training process failed; its own message stands above.") from None
        finally:
            finished.set()
            if sys.exc_info()[0] is not None:
                self.mark_failed()
            for worker in workers:
                worker.join(timeout=5)
                worker.kill()


def _no_workers_to_watch() -> bool:
    return True


def _exit_without_workers(sentinels: list[int], finished: threading.Event) -> None:
    """Exit this process when a worker is gone and no barrier notices it, as while code compiles for half a minute."""
    connection.wait(sentinels)
    if not finished.wait(GRACE_SECONDS):
        print(WORKER_KILLED, file=sys.stderr, flush=True)
        os._exit(1)


def _run_worker(
    group: DataParallelGroup, local_rank: int, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    process_control.exit_with_parent()
    try:
        group.attach_parameters(local_rank)
        work(group, *arguments)
    except (BrokenBarrierError, InputError, StoppedError):
        os._exit(1)  # without a message: the process that failed, or the first one, prints it
    except BaseException:
        group.mark_failed()
        raise
