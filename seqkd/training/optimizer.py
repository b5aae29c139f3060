"""One process's side of an update: all-reduce, gradient clipping, learning-rate schedule, step; skip if not finite."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seqkd.config.schema import OptimizerSettings
from seqkd.training.data_parallel import DataParallelGroup
from seqkd.training.training_state import StateTensors, TrainingState

MAX_SKIPPED_IN_A_ROW = 10  # skipped updates one after the other that end a training ...
MAX_SKIPPED_SHARE = 0.01  # ... and the share of all its updates, once more than MAX_SKIPPED_IN_A_ROW are skipped


class ShardedOptimizer:
    """Adam or SGD on this process's slices of the flat weights; each slice has one owner."""

    def __init__(
        self, group: DataParallelGroup, settings: OptimizerSettings, *, mask: Tensor | None, state: TrainingState
    ) -> None:
        self.group, self.settings, self.state = group, settings, state
        self.slices = [group.weight_slice(shard) for shard in group.local_shards]
        self.weights = [group.weights[piece] for piece in self.slices]
        self.masks = [None if mask is None else mask[piece].to(group.weights) for piece in self.slices]
        self.gradients = [torch.zeros_like(weights) for weights in self.weights]
        for weights, gradient in zip(self.weights, self.gradients, strict=True):
            weights.grad = gradient
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(self.weights)
        if settings.optimizer == "adam":
            self.optimizer = torch.optim.Adam(self.weights, betas=(0.9, settings.beta2), fused=True)

    def load_state(self, tensors: StateTensors) -> None:
        """Continue from Adam's moments in tensors, and update them in place from now on."""
        if self.settings.optimizer != "adam":
            return
        steps = float(self.state.updates - self.state.skipped)
        for weights, piece in zip(self.weights, self.slices, strict=True):
            self.optimizer.state[weights] = {
                "step": torch.tensor(steps, device=weights.device),
                "exp_avg": tensors.exp_avg[piece],
                "exp_avg_sq": tensors.exp_avg_sq[piece],
            }

    def update(self, losses: Sequence[float], tokens: int, *, scale: float, steps_per_epoch: int) -> None:
        """Take one step with the published gradients of all shards, scaled and then clipped to max_grad_norm.

        losses: nats summed over target tokens, for each of this process's shards; tokens: target tokens of the whole
        batch. A step whose loss or gradient is not finite is skipped. Contains one all_reduce.
        """
        self.group.exchange_gradients()
        squared_norms = [self._sum_gradients(index) for index in range(len(self.slices))]
        loss, squared_norm = self.group.all_reduce(losses, squared_norms)
        grad_norm = math.sqrt(squared_norm) * scale
        self.state.learning_rate = self._scheduled_learning_rate(steps_per_epoch)
        finite = math.isfinite(loss + grad_norm)
        if finite:
            self._step(scale * self._clip_factor(grad_norm))
        self._count_update(loss, tokens, skipped=not finite)
        self.group.gather_slices(self.group.weights)

    def _sum_gradients(self, index: int) -> float:
        """Sum one slice of the gradient over all shards of the batch, in shard order; return its squared norm."""
        gradient = self.gradients[index]
        torch.sum(self.group.gradients[:, self.slices[index]], 0, out=gradient)
        return float(torch.dot(gradient, gradient))

    def _clip_factor(self, grad_norm: float) -> float:
        """Return what scales a gradient of this norm down to max_grad_norm; 1 where it is smaller."""
        return min(1.0, self.settings.max_grad_norm / (grad_norm + 1e-6))

    def _step(self, scale: float) -> None:
        """Update the weights with the gradients times scale, and set pruned weights back to zero."""
        for gradient in self.gradients:
            gradient.mul_(scale)
        self.optimizer.param_groups[0]["lr"] = self.state.learning_rate
        self.optimizer.step()
        for weights, mask in zip(self.weights, self.masks, strict=True):
            if mask is not None:
                weights.mul_(mask)

    def _count_update(self, loss: float, tokens: int, *, skipped: bool) -> None:
        state = self.state
        state.updates += 1
        state.epoch_batches += 1
        if skipped:
            state.skipped += 1
            state.skipped_in_a_row += 1
        else:
            state.skipped_in_a_row = 0
            state.epoch_nll += loss
            state.epoch_tokens += tokens

    def diverged(self) -> bool:
        """Return whether so many updates were skipped that the training cannot succeed."""
        state = self.state
        limit = max(MAX_SKIPPED_IN_A_ROW, MAX_SKIPPED_SHARE * state.updates)
        return state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW or state.skipped > limit

    def _scheduled_learning_rate(self, steps_per_epoch: int) -> float:
        """Return the learning rate of the next update: linear warm-up times the learning-rate schedule."""
        settings, updates = self.settings, self.state.updates
        warmup = min(1.0, (updates + 1) / (settings.warmup_steps + 1))
        if settings.schedule == "cosine":
            decay = 0.5 * (1 + math.cos(math.pi * updates / (steps_per_epoch * settings.epochs)))
            return settings.learning_rate * warmup * decay
        return settings.learning_rate * warmup * 0.5**self.state.halvings

    def end_epoch(self) -> None:
        """Follow the paper's schedule: halve the learning rate after every epoch from the first that got worse.

        It begins to halve after epoch start_decay_epoch - 1 at the latest.
        """
        curve = self.state.curve
        worse = len(curve) > 1 and curve[-1].dev_perplexity > curve[-2].dev_perplexity
        if self.settings.schedule == "halve":
            begins = worse or len(curve) + 1 >= self.settings.start_decay_epoch
            self.state.halvings += int(self.state.halvings > 0 or begins)
