"""The ranks of a training over machines or GPUs: torch.distributed in few words.

torchrun starts them (`utils/torchrun.py`): one for each machine, whose processes share memory (`data_parallel.py`), or
one for each GPU. What is sent are copies and sums with zeros, never a sum of two values: so the bits of a training do
not depend on the order in which a network adds.
"""

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from seqkd.ops import matmul
from seqkd.utils import machine_identity, torchrun
from seqkd.utils.errors import InputError

START_SECONDS = 120.0  # for all ranks to come
TIMEOUT_SECONDS = 600.0  # for a rank to answer, which may compile code meanwhile

Parts = Callable[[int], Sequence[Tensor]]  # of a rank: its parts, views of tensors that every rank has; one dtype


class Ranks:
    """The ranks of a training and this one's number. Without torchrun there is one, which talks to nobody."""

    def __init__(self, rank: int = 0, world_size: int = 1, hosts: Sequence[str] = ()) -> None:
        self.rank, self.world_size, self.hosts = rank, world_size, hosts

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value, which can be pickled."""
        values = [value]
        if self.world_size > 1:
            with self._collective():
                distributed.broadcast_object_list(values, src=0)
        return values[0]

    def broadcast_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Fill these tensors with those of rank 0, which have the same shapes."""
        if self.world_size > 1:
            with self._collective():
                for tensor in tensors:
                    if tensor.numel():
                        distributed.broadcast(tensor, src=0)

    def barrier(self) -> None:
        """Return when every rank has reached this barrier."""
        with self._collective():
            distributed.barrier()

    def sum_sparse(self, values: Tensor) -> None:
        """Fill values, float64, with the sums over all ranks; of each value all ranks but one hold zero."""
        with self._collective():
            distributed.all_reduce(values)

    def gather(self, owned: Parts) -> None:
        """Fill every rank's parts with those that the rank itself has."""
        with self._collective():
            sizes = [sum(part.numel() for part in owned(rank)) for rank in range(self.world_size)]
            own = _flat(owned(self.rank))
            packed = torch.cat((own, own.new_zeros(max(sizes) - len(own))))  # all send the same number of values
            received = [torch.empty_like(packed) for _ in range(self.world_size)]
            distributed.all_gather(received, packed)
            for rank, values in enumerate(received):
                if rank != self.rank:
                    _unpack(values, owned(rank))

    def exchange(self, sent: Parts, received: Parts) -> None:
        """Send each rank its parts of sent, and fill those of received with what each rank sends."""
        with self._collective():
            outgoing = [_flat(sent(rank)) for rank in range(self.world_size)]
            sizes = [sum(part.numel() for part in received(rank)) for rank in range(self.world_size)]
            incoming = outgoing[0].new_empty(sum(sizes))
            distributed.all_to_all_single(incoming, torch.cat(outgoing), sizes, list(map(len, outgoing)))
            for rank, values in enumerate(torch.split(incoming, sizes)):
                _unpack(values, received(rank))

    @contextmanager
    def _collective(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise InputError(
                f"a rank of this training is lost, or did not answer for {TIMEOUT_SECONDS:.0f} s, as rank {self.rank}"
                f" on {self.hosts[self.rank]} found ({_first_line(error)}); the ranks: {_named(self.hosts)}. Run the"
                " command again, with as many ranks as you like: it resumes from the last checkpoint."
            ) from None


ALONE = Ranks()


def connect(job: str, device: torch.device, *, mixed: bool) -> Ranks:
    """Return the ranks that torchrun has started, all of them at the same job; without torchrun: this process alone.

    job: a key of settings, files and weights; mixed: whether code, packages and processors may differ.

    Raise InputError, with the hosts' names, where ranks do not come, or differ.
    """
    rank, world_size = torchrun.world()
    if world_size == 1:
        return ALONE
    if not distributed.is_initialized():
        _start(rank, world_size, device)
    found: list[Any] = [None] * world_size
    identity = machine_identity.of(__name__) | {
        "instruction set of torch": torch.backends.cpu.get_cpu_capability(),
        "code for products": matmul.describe_backend(),  # a system may refuse the tiles that the processor has
    }
    distributed.all_gather_object(found, (platform.node(), job, identity))
    for other, (host, _, its_identity) in enumerate(found):
        wanted = None if mixed else found[0][2]
        machine_identity.check(wanted, its_identity, host=f"{host} (rank {other}, against rank 0)")
    for other, (host, its_job, _) in enumerate(found):
        if its_job != found[0][1]:
            raise InputError(
                f"{host} (rank {other}) has other settings, text or models than {found[0][0]} (rank 0); give all the"
                " same commit, params.yaml and artefacts (dvc pull)."
            )
    return Ranks(rank, world_size, [host for host, *_ in found])


def _start(rank: int, world_size: int, device: torch.device) -> None:
    """Start torch.distributed once all ranks have come. Raise InputError, with those that have, where some do not."""
    store, keys = _store(rank), [f"host {other}" for other in range(world_size)]
    store.set(keys[rank], platform.node())
    try:
        store.wait(keys, timedelta(seconds=START_SECONDS))
    except RuntimeError:
        hosts = {other: store.get(key).decode() for other, key in enumerate(keys) if store.check([key])}
        missing = ", ".join(str(other) for other in range(world_size) if other not in hosts)
        raise InputError(
            f"{len(hosts)} of {world_size} ranks came within {START_SECONDS:.0f} s:"
            f" {_named(list(hosts.values()))}; rank {missing} did not. Start the command on the other machines too, or"
            " with fewer ranks."
        ) from None
    backend = "gloo" if device.type == "cpu" else f"cpu:gloo,{device.type}:nccl"
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=world_size, timeout=timedelta(seconds=TIMEOUT_SECONDS)
    )


def _store(rank: int) -> Store:
    """Return the store at MASTER_ADDR, in which ranks find each other; rank 0 holds it where torchrun does not.

    Raise InputError where nobody holds it.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    holds = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = TCPStore(host, port, is_master=holds, wait_for_workers=False, timeout=timedelta(seconds=START_SECONDS))
    except RuntimeError as error:
        raise InputError(
            f"rank {rank} on {platform.node()}: nobody answers at {host}:{port} ({_first_line(error)}); start rank 0"
            " there, or correct the address that torchrun was given."
        ) from None
    return PrefixStore(f"seqkd {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def bytes_sent(parameters: int, *, shards: int, ranks: int) -> float:
    """Return the bytes that a rank sends in one update: gradients of its shards, then its slices of the weights."""
    return 4.0 * parameters * (ranks - 1) / ranks * (shards / ranks + 1)


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def _unpack(values: Tensor, parts: Sequence[Tensor]) -> None:
    """Fill parts with the values at the beginning of a flat tensor."""
    sizes = [part.numel() for part in parts]
    for part, value in zip(parts, torch.split(values[: sum(sizes)], sizes), strict=True):
        part.copy_(value.view(part.shape))


def _named(hosts: Sequence[str]) -> str:
    return ", ".join(sorted(set(hosts)))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no reason given"])[0][:200].rstrip(".")
