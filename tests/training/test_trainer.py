"""The training loop: it learns, repeats bit for bit, resumes where it stopped, saves on a signal, stops early."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trainings import DEV, TEXT, flat, job, network, settings

from seqkd.config.machine import Machine
from seqkd.data.nbest import Hypothesis
from seqkd.decoding import beam_search
from seqkd.models import perplexity
from seqkd.models.interface import Network
from seqkd.training import data_parallel, on_policy, pruning, trainer, training_state
from seqkd.training.teacher import TopKCache
from seqkd.training.trainer import TrainingJob
from seqkd.training.training_state import CheckpointSaver, StateTensors, TrainingState
from seqkd.utils.errors import InputError, StoppedError

ONE = Machine(processes=1)


def test_training_learns_to_copy() -> None:
    net = network(dropout=0.0)
    curve = trainer.train(net, job(settings=settings(epochs=40, learning_rate=0.02, batch_size=4)), ONE)
    assert curve[0].dev_perplexity > 5.0
    assert curve[-1].dev_perplexity < 2.5
    assert [line.epoch for line in curve] == list(range(1, 41))
    assert curve[-1].updates == 40 * 24


@pytest.mark.parametrize("processes", [1, 2])
def test_training_with_the_same_seed_gives_the_same_bits(processes: int) -> None:
    first, second, other = network(), network(), network()
    curve = trainer.train(first, job(), Machine(processes=processes))
    assert trainer.train(second, job(), Machine(processes=processes)) == curve
    assert torch.equal(flat(first), flat(second))
    trainer.train(other, job(seed=6), Machine(processes=processes))
    assert not torch.equal(flat(first), flat(other))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_has_the_same_bits_with_any_number_of_processes(optimizer: str) -> None:
    """Three shards of a batch of 24, so that two processes have an unequal number of them."""
    three = settings(optimizer=optimizer, learning_rate=0.02, shards=3, batch_size=24, max_grad_norm=0.5)
    nets = [network() for _ in range(3)]
    curves = [
        trainer.train(net, job(settings=three), Machine(processes=processes))
        for processes, net in enumerate(nets, start=1)
    ]
    assert curves[0] == curves[1] == curves[2]
    assert torch.equal(flat(nets[0]), flat(nets[1]))
    assert torch.equal(flat(nets[0]), flat(nets[2]))


def test_training_with_more_shards_changes_only_the_order_of_sums() -> None:
    one, two = network(dropout=0.0), network(dropout=0.0)
    trainer.train(one, job(settings=settings(optimizer="sgd", learning_rate=0.5, shards=1)), ONE)
    trainer.train(two, job(settings=settings(optimizer="sgd", learning_rate=0.5, shards=2)), ONE)
    torch.testing.assert_close(flat(one), flat(two), rtol=1e-4, atol=1e-5)
    assert not torch.equal(flat(one), flat(two))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": "sgd", "schedule": "halve", "keep_checkpoint": "best", "start_decay_epoch": 2}]
)
def test_training_ended_after_any_update_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    """Every update is saved; ended right after each second save, with another number of processes each time."""
    interrupted = job(settings=settings(**changes), resume=tmp_path)
    undisturbed = network()
    expected = trainer.train(undisturbed, job(settings=interrupted.settings), ONE)

    class StopError(Exception):
        pass

    saves = []
    save = CheckpointSaver.save

    def save_and_end(saver: CheckpointSaver, state: TrainingState, tensors: StateTensors) -> None:
        save(saver, state, tensors)
        saves.append((len(state.curve), state.epoch_batches))
        if len(saves) % 2 == 0 and len(state.curve) < 3:
            raise StopError

    monkeypatch.setattr(CheckpointSaver, "save", save_and_end)
    runs = 0
    while True:
        resumed = network(seed=9 if runs else 1)
        try:
            curve = trainer.train(resumed, interrupted, Machine(processes=1 + runs % 2, checkpoint_interval=0.0))
        except StopError:
            runs += 1
        else:
            break
    positions = [(epoch, batch) for epoch in range(3) for batch in range(7)]
    assert saves == [*positions[1:], (3, 0)]
    assert runs == 10
    assert curve == expected
    assert torch.equal(flat(resumed), flat(undisturbed))


def test_training_that_is_finished_is_not_trained_again(tmp_path: Path) -> None:
    finished = job(resume=tmp_path, settings=settings(keep_checkpoint="best", learning_rate=0.2, schedule="constant"))
    first, again = network(), network(seed=9)
    curve = trainer.train(first, finished, ONE)
    before = sorted(tmp_path.iterdir())
    assert trainer.train(again, finished, Machine(processes=2)) == curve
    assert torch.equal(flat(first), flat(again))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("processes", [1, 2])
def test_training_saves_its_state_before_a_signal_ends_it(tmp_path: Path, number: int, processes: int) -> None:
    before = signal.getsignal(number)
    signal.signal(number, signal.default_int_handler)
    undisturbed, net = network(), network()
    long = settings(epochs=40, batch_size=8)
    curve = trainer.train(undisturbed, job(settings=long), ONE)
    threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
    with pytest.raises(StoppedError, match="the state is saved") as stopped:
        trainer.train(net, job(settings=long, resume=tmp_path), Machine(processes=processes))
    assert stopped.value.signal == number
    assert signal.getsignal(number) is signal.default_int_handler
    signal.signal(number, before)
    checkpoint = training_state.latest(tmp_path)
    assert checkpoint is not None
    assert 0 < checkpoint[0].updates < 40 * 12
    assert trainer.train(net, job(settings=long, resume=tmp_path), ONE) == curve
    assert torch.equal(flat(net), flat(undisturbed))


def test_signal_leaves_the_workers_running_until_the_state_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 exits soon after a worker is gone, even in the middle of a slow save."""
    save, events = CheckpointSaver.save, list[str]()

    def save_slowly(saver: CheckpointSaver, state: TrainingState, tensors: StateTensors) -> None:
        time.sleep(0.5)
        save(saver, state, tensors)
        events.append("saved")

    def wait_for_workers(sentinels: list[int], _: threading.Event) -> None:
        connection.wait(sentinels)
        events.append("worker gone")

    monkeypatch.setattr(CheckpointSaver, "save", save_slowly)
    monkeypatch.setattr(data_parallel, "_exit_without_workers", wait_for_workers)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(StoppedError, match="the state is saved"):
        trainer.train(network(), job(settings=settings(epochs=400), resume=tmp_path), Machine(processes=2))
    assert events[0] == "saved"


def _spoil_gradients(monkeypatch: pytest.MonkeyPatch, updates: set[int]) -> None:
    """Make the gradients of some updates not finite, as they are where the loss is."""
    forward_backward = trainer._Worker._forward_backward

    def spoiled(worker: trainer._Worker, shard: int, part: Any) -> Tensor | float:
        nats = forward_backward(worker, shard, part)
        if worker.state.updates in updates and shard == worker.group.shards - 1:
            worker.group.gradients[shard, 7] = float("nan")
        return nats

    monkeypatch.setattr(trainer._Worker, "_forward_backward", spoiled)


@pytest.mark.parametrize("processes", [1, 2])
def test_update_with_a_non_finite_gradient_is_skipped_and_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, processes: int
) -> None:
    _spoil_gradients(monkeypatch, {2, 3, 17})
    net = network()
    curve = trainer.train(net, job(resume=tmp_path), Machine(processes=processes))
    checkpoint = training_state.latest(tmp_path)
    assert checkpoint is not None
    state = checkpoint[0]
    assert (state.skipped, state.skipped_in_a_row, state.updates) == (3, 1, 18)
    assert flat(net).isfinite().all()
    assert all(1.0 < line.train_loss < 3.0 for line in curve)


@pytest.mark.parametrize(
    ("spoiled", "processes"), [(set(range(8, 30)), 1), (set(range(8, 30)), 2), (set(range(0, 40, 2)), 1)]
)
def test_divergence_ends_a_training_with_advice_and_keeps_the_last_good_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoiled: set[int], processes: int
) -> None:
    _spoil_gradients(monkeypatch, spoiled)
    advice = r"updates were not finite; lower optim\.teacher\.learning_rate or optim\.teacher\.max_grad_norm"
    with pytest.raises(InputError, match=advice):
        trainer.train(
            network(), job(resume=tmp_path, settings=settings(epochs=9), optim="teacher"), Machine(processes=processes)
        )
    checkpoint = training_state.latest(tmp_path)
    assert checkpoint is not None
    assert checkpoint[1].weights.isfinite().all()


def test_divergence_to_infinite_losses_ends_in_advice() -> None:
    wild = settings(optimizer="sgd", learning_rate=1e30, schedule="constant", max_grad_norm=1e30, epochs=30)
    with pytest.raises(InputError, match="not finite; lower optim"):
        trainer.train(network(), job(settings=wild), ONE)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_pruned_weights_stay_exactly_zero_through_retraining(optimizer: str) -> None:
    net = network()
    mask = pruning.mask(net, 0.6)
    pruning.apply(net, mask)
    trainer.train(net, job(settings=settings(optimizer=optimizer), mask=mask), Machine(processes=2))
    assert not flat(net)[~mask].any()
    assert flat(net)[mask].all()


def test_best_epoch_is_kept_where_the_settings_say_so() -> None:
    net = network(dropout=0.0)
    wild = settings(
        learning_rate=0.5, schedule="constant", epochs=4, keep_checkpoint="best", optimizer="sgd", max_grad_norm=50.0
    )
    curve = trainer.train(net, job(settings=wild), ONE)
    assert perplexity.perplexity(net, DEV) == pytest.approx(min(line.dev_perplexity for line in curve), rel=1e-5)


def test_early_stopping_ends_a_training_that_no_longer_gets_better() -> None:
    still = settings(learning_rate=1e-12, epochs=9, patience=2, schedule="constant", optimizer="sgd")
    assert len(trainer.train(network(dropout=0.0), job(settings=still), ONE)) <= 4


def test_dev_perplexity_of_an_even_network_is_its_vocabulary() -> None:
    net = network()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert perplexity.perplexity(net, DEV) == pytest.approx(12.0)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_word_kd_brings_a_student_close_to_its_teacher(processes: int) -> None:
    teacher, student = network(seed=3, dropout=0.0), network(dropout=0.0)
    long = settings(epochs=30, learning_rate=0.02, batch_size=8)
    reached = trainer.train(teacher, job(settings=long), ONE)[-1].dev_perplexity
    curve = trainer.train(student, job(alpha=1.0, teacher=teacher, settings=long), Machine(processes=processes))
    assert curve[0].dev_perplexity > 1.5 * reached
    assert curve[-1].dev_perplexity == pytest.approx(reached, rel=0.2)


@pytest.mark.parametrize("processes", [1, 2])
def test_word_kd_with_the_top_k_of_all_words_is_word_kd_with_the_full_distribution(
    tmp_path: Path, processes: int
) -> None:
    curves = [
        trainer.train(
            network(dropout=0.0),
            job(alpha=0.7, teacher=network(seed=3, dropout=0.0), top_k_cache=cache),
            Machine(processes=processes),
        )
        for cache in (None, TopKCache(99, tmp_path / "k"))
    ]
    assert curves[0][-1].dev_perplexity == pytest.approx(curves[1][-1].dev_perplexity, rel=1e-2)
    assert curves[0][-1].train_loss == pytest.approx(curves[1][-1].train_loss, rel=1e-3)


def _on_policy(**other: object) -> TrainingJob:
    """Return a training on the student's own output, which a teacher that copies judges."""
    teacher = network(seed=9, dropout=0.0)
    short = settings(epochs=2, learning_rate=0.02)
    return job(**{"settings": short, "search": beam_search.greedy, "alpha": 1.0, "teacher": teacher, **other})


def test_on_policy_training_reads_the_networks_own_translations_and_renews_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[Tensor, list[list[int]]]] = []

    def search(net: Network, sources: Sequence[Sequence[int]]) -> list[Hypothesis]:
        found = beam_search.greedy(net, sources)
        seen.append((flat(net), [list(best.ids) for best in found]))
        return found

    read: list[list[list[int]]] = []
    renew = trainer._Worker._renew_text

    def renew_and_tell(worker: Any, *arguments: Any, **other: Any) -> None:
        renew(worker, *arguments, **other)
        read.append(worker.text.targets)

    monkeypatch.setattr(trainer._Worker, "_renew_text", renew_and_tell)
    trainer.train(network(), _on_policy(search=search), ONE)
    assert len(seen) == len(read) == 2  # one chunk in each of two epochs
    assert torch.equal(seen[0][0], flat(network()))
    assert not torch.equal(seen[1][0], seen[0][0])
    for (_, found), targets in zip(seen, read, strict=True):
        rows = sorted(range(len(TEXT.sources)), key=lambda row: (len(TEXT.sources[row]), row))
        limits = [on_policy.MAX_RATIO * max(map(len, TEXT.sources))] * len(rows)
        assert [targets[row] for row in rows] == [ids[:most] for ids, most in zip(found, limits, strict=True)]
    assert read[0] != read[1]


@pytest.mark.slow
def test_on_policy_training_has_the_same_bits_with_two_processes_and_after_a_kill_in_the_middle_of_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, two, interrupted = network(), network(), network()
    expected = trainer.train(alone, _on_policy(), ONE)
    assert trainer.train(two, _on_policy(), Machine(processes=2)) == expected
    assert torch.equal(flat(two), flat(alone))

    class StopError(Exception):
        pass

    save = CheckpointSaver.save

    def save_and_end(saver: CheckpointSaver, state: TrainingState, tensors: StateTensors) -> None:
        save(saver, state, tensors)
        if state.epoch_batches == 3:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointSaver, "save", save_and_end)
        with pytest.raises(StopError):
            trainer.train(interrupted, _on_policy(resume=tmp_path), Machine(processes=1, checkpoint_interval=0.0))
    again = network(seed=2)
    assert trainer.train(again, _on_policy(resume=tmp_path), ONE) == expected
    assert torch.equal(flat(again), flat(alone))
