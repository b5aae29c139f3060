"""The group of processes: sums in shard order, flags, and a barrier that also holds without x86's store order."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trainings import flat, job, network, settings

from seqkd.config.machine import Machine
from seqkd.training import data_parallel, trainer
from seqkd.training.data_parallel import DataParallelGroup
from seqkd.utils import process_control
from seqkd.utils.errors import InputError


def _reduce(group: DataParallelGroup, results: Tensor) -> None:
    """Write to results[rank], in every process, what three all_reduces give and which flags come with them."""
    for turn, flag in enumerate((7, 0, 9)):
        if flag:
            group.broadcast_flag(flag + 100 * group.local_rank)
        sums = group.all_reduce([0.1 * shard for shard in group.local_shards], [1.0 for _ in group.local_shards])
        results[group.local_rank, turn] = torch.tensor([*sums, group.flag])
    group.barrier()


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_reduce_gives_every_process_the_same_sums_and_the_flag_of_rank_0(
    monkeypatch: pytest.MonkeyPatch, size: int, in_order: bool
) -> None:
    monkeypatch.setattr(data_parallel, "STORES_IN_ORDER", in_order)
    group = DataParallelGroup(nn.Linear(2, 2), size, shards=5)
    results = group.shared(torch.zeros(size, 3, 3, dtype=torch.float64))
    group.run(_reduce, results)
    total = sum([0.0, 0.1, 0.2, 0.1 * 3, 0.4])
    assert results.tolist() == [[[total, 5.0, 7.0], [total, 5.0, 0.0], [total, 5.0, 9.0]]] * size


def test_barrier_with_a_lock_as_memory_fence_trains_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    nets, three = (network(), network()), settings(shards=3, batch_size=24)
    expected = trainer.train(nets[0], job(settings=three), Machine(processes=1, device="cpu"))
    monkeypatch.setattr(data_parallel, "STORES_IN_ORDER", False)
    assert trainer.train(nets[1], job(settings=three), Machine(processes=3, device="cpu")) == expected
    assert torch.equal(flat(nets[0]), flat(nets[1]))


def _write_rank(group: DataParallelGroup, ranks: Tensor, stop_requested: Callable[[], int]) -> None:
    ranks[group.local_rank] = group.local_rank + stop_requested()
    group.barrier()


@pytest.mark.slow
def test_processes_that_are_spawned_share_memory_and_take_what_a_training_hands_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on macOS; there the barrier has a lock too."""
    monkeypatch.setattr(data_parallel, "START_METHOD", "spawn")
    monkeypatch.setattr(data_parallel, "STORES_IN_ORDER", False)
    group = DataParallelGroup(nn.Linear(2, 2), 2, shards=2)
    ranks = group.shared(torch.full((2,), -1))
    with process_control.defer_signals() as stop_requested:
        group.run(_write_rank, ranks, stop_requested)
    assert ranks.tolist() == [0, 1]


def _fail(group: DataParallelGroup, **_: Any) -> None:
    if group.local_rank == 1:
        raise InputError("the text is wrong")
    group.barrier()


@pytest.mark.parametrize("in_order", [True, False])
def test_barrier_raises_where_another_process_has_failed(monkeypatch: pytest.MonkeyPatch, in_order: bool) -> None:
    monkeypatch.setattr(data_parallel, "STORES_IN_ORDER", in_order)
    with pytest.raises(RuntimeError, match="A training process failed"):
        DataParallelGroup(nn.Linear(2, 2), 2, shards=2).run(_fail)


def _publish(group: DataParallelGroup) -> None:
    for shard in group.local_shards:
        group.network(torch.full((1, 2), float(shard))).sum().backward()
        group.publish_gradients(shard)
    group.barrier()


def test_publish_gradients_puts_every_shard_in_its_row_and_clears_them() -> None:
    group = DataParallelGroup(nn.Linear(2, 1), 2, shards=3)
    group.run(_publish)
    assert group.gradients.tolist() == [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [2.0, 2.0, 1.0]]
    assert all(parameter.grad is None for parameter in group.network.parameters())


def test_too_little_shared_memory_is_one_sentence_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Tensor) -> Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2>: No space left on device (28)")

    monkeypatch.setattr(Tensor, "share_memory_", full)
    with pytest.raises(
        InputError, match=r"^shared memory has no space for \d+ MB more; enlarge /dev/shm .*processes: 1"
    ):
        trainer.train(network(), job(), Machine(processes=2, device="cpu"))
