"""The optimizer's step: the learning-rate schedule, and what beta2 does."""

import pytest
import torch
from trainings import SENTENCES, flat, job, network, settings

from seqkd.config.machine import Machine
from seqkd.training import trainer
from seqkd.training.curve import Epoch
from seqkd.training.data_parallel import DataParallelGroup
from seqkd.training.optimizer import ShardedOptimizer
from seqkd.training.training_state import TrainingState

ONE = Machine(processes=1)


def test_adam_beta2_matters_from_the_second_update_on() -> None:
    """The first update is corrected for the zero that the means begin at, and so the same for every beta2."""
    for epochs, alike in ((1, True), (2, False)):
        nets = network(), network()
        for net, beta2 in zip(nets, (0.5, 0.999), strict=True):
            one_batch = settings(beta2=beta2, epochs=epochs, batch_size=len(SENTENCES), schedule="constant")
            trainer.train(net, job(settings=one_batch), ONE)
        assert torch.allclose(flat(nets[0]), flat(nets[1]), atol=1e-5) == alike


def test_schedule_halve_halves_every_epoch_from_start_decay_epoch_on() -> None:
    slow = settings(optimizer="sgd", learning_rate=0.5, schedule="halve", epochs=5, start_decay_epoch=3, warmup_steps=0)
    curve = trainer.train(network(dropout=0.0), job(settings=slow), ONE)
    worse = [one.dev_perplexity > other.dev_perplexity for one, other in zip(curve[1:], curve, strict=False)]
    assert not any(worse)
    assert [line.learning_rate for line in curve] == [0.5, 0.5, 0.25, 0.125, 0.0625]


def _optimizer(**changes: object) -> ShardedOptimizer:
    group = DataParallelGroup(network(), 1)
    group.attach_parameters(0)
    return ShardedOptimizer(group, settings(optimizer="sgd", **changes), mask=None, state=TrainingState())


def test_schedule_halve_halves_every_epoch_after_the_first_that_got_worse() -> None:
    optimizer, halvings = _optimizer(schedule="halve", start_decay_epoch=9), []
    for number, perplexity in enumerate([9.0, 8.0, 8.5, 7.0, 6.0], start=1):
        optimizer.state.curve.append(Epoch(number, number, 0.1, 2.0, perplexity))
        optimizer.end_epoch()
        halvings.append(optimizer.state.halvings)
    assert halvings == [0, 0, 1, 2, 3]


def test_gradients_beyond_max_grad_norm_are_clipped() -> None:
    """SGD moves the weights by learning rate times gradient, whose norm is 6 here, of which 1.5 are left."""
    optimizer = _optimizer(learning_rate=0.5, schedule="constant", warmup_steps=0, max_grad_norm=1.5)
    group = optimizer.group
    before = group.weights.clone()
    group.gradients[0, :9] = 4.0  # norm 12
    optimizer.update([1.0], 2, scale=0.5, steps_per_epoch=1)
    assert float((before - group.weights).norm()) == pytest.approx(0.5 * 1.5, rel=1e-5)
    assert (optimizer.state.epoch_nll, optimizer.state.epoch_tokens, optimizer.state.updates) == (1.0, 2, 1)


def test_warmup_raises_the_learning_rate_linearly() -> None:
    optimizer, rates = _optimizer(learning_rate=0.4, schedule="constant", warmup_steps=3), []
    for _ in range(5):
        optimizer.update([1.0], 2, scale=1.0, steps_per_epoch=5)
        rates.append(optimizer.state.learning_rate)
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
