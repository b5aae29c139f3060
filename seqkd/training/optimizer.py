"""The optimiser's side of a training: gradients in, weights, moments and learning rate out, bad numbers left out."""

import math

import torch
from torch import Tensor

from seqkd.config.schema import OptimizerSettings
from seqkd.training.data_parallel import DataParallelGroup
from seqkd.training.training_state import StateTensors, TrainingState
from seqkd.utils.errors import InputError

MAX_SKIPPED_IN_A_ROW = 10  # updates left out one after the other that end a training ...
MAX_SKIPPED_SHARE = 0.01  # ... and the share of all its updates, once more than IN_A_ROW are


def divergence_error(label: str, row: str, what: str) -> InputError:
    """What ends a training whose numbers run away. row: of optim."""
    return InputError(
        f"{label}: {what} not finite; lower optim.{row}.learning_rate or optim.{row}.max_grad_norm in params.yaml."
        " The last good state is kept."
    )


class ShardedOptimizer:
    """One process's shares of the flat weights, with their gradients and moments."""

    def __init__(
        self, team: DataParallelGroup, settings: OptimizerSettings, *, mask: Tensor | None, state: TrainingState
    ) -> None:
        self.team, self.settings, self.state = team, settings, state
        self.slices = [team.slice(share) for share in team.local_shards]
        self.weights = [team.weights[piece] for piece in self.slices]
        self.masks = [] if mask is None else [mask[piece].to(team.weights) for piece in self.slices]
        for weights in self.weights:
            weights.grad = torch.zeros_like(weights)
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(self.weights)
        if settings.optimizer == "adam":
            self.optimizer = torch.optim.Adam(self.weights, betas=(0.9, settings.beta2), fused=True)

    def load_state(self, tensors: StateTensors) -> None:
        """Lets the optimiser's moments lie in tensors, whose values it goes on from."""
        if self.settings.optimizer != "adam":
            return
        step = float(self.state.updates - self.state.skipped)
        for weights, piece in zip(self.weights, self.slices, strict=True):
            self.optimizer.state[weights] = {
                "step": torch.tensor(step, device=weights.device),
                "exp_avg": tensors.first[piece],
                "exp_avg_sq": tensors.second[piece],
            }

    def update(self, nats: list[float], words: int, *, scale: float, steps_per_epoch: int, wish: int) -> int:
        """One step from the gradients of all shares, scaled, then clipped to the settings' norm.

        nats: the loss of each of this process's shares; words: of the whole batch. A step whose loss or gradient is not
        finite is left out. Returns the sum of all processes' wishes. Raises InputError when too many are left out.
        """
        team, at = self.team, self.state
        team.barrier()
        wishes = [float(wish), *[0.0] * (len(nats) - 1)]
        loss, square, wished = team.all_reduce(nats, [self._gather(index) for index in range(len(nats))], wishes)
        norm = math.sqrt(square) * scale
        self._step(
            scale * min(1.0, self.settings.max_grad_norm / (norm + 1e-6)),
            steps_per_epoch,
            good=math.isfinite(loss + norm),
        )
        if at.in_a_row == 0:
            at.nats += loss
            at.words += words
        at.updates += 1
        at.batches += 1
        team.barrier()
        return round(wished)

    def _gather(self, index: int) -> float:
        """Sums a slice's gradient over the shares of the batch, in their order; its squared norm."""
        gradient = self.weights[index].grad
        assert gradient is not None
        torch.sum(self.team.gradients[:, self.slices[index]], 0, out=gradient)
        return float(torch.dot(gradient, gradient))

    def _step(self, scale: float, steps_per_epoch: int, *, good: bool) -> None:
        at = self.state
        at.learning_rate = self.optimizer.param_groups[0]["lr"] = self._rate(steps_per_epoch)
        at.in_a_row = 0 if good else at.in_a_row + 1
        if not good:
            at.skipped += 1
            return
        for weights in self.weights:
            assert weights.grad is not None
            weights.grad.mul_(scale)
        self.optimizer.step()
        for weights, mask in zip(self.weights, self.masks, strict=bool(self.masks)):
            weights.mul_(mask)  # after the step, so that a pruned weight never comes back

    def lost(self) -> bool:
        """Whether too many updates were left out for the training to come to anything."""
        at = self.state
        return at.in_a_row >= MAX_SKIPPED_IN_A_ROW or at.skipped > max(
            MAX_SKIPPED_IN_A_ROW, MAX_SKIPPED_SHARE * at.updates
        )

    def _rate(self, steps_per_epoch: int) -> float:
        settings, updates, highest = self.settings, self.state.updates, self.settings.learning_rate
        rise = min(1.0, (updates + 1) / (settings.warmup_steps + 1))
        if settings.schedule == "cosine":
            return highest * rise * 0.5 * (1 + math.cos(math.pi * updates / (steps_per_epoch * settings.epochs)))
        return highest * rise * 0.5**self.state.halvings

    def after_epoch(self) -> None:
        """The paper's rule: halve after every epoch from the first that got worse, or from a fixed one."""
        at = self.state
        worse = len(at.curve) > 1 and at.curve[-1].dev_perplexity > at.curve[-2].dev_perplexity
        if self.settings.schedule == "halve":
            halving = at.halvings > 0 or worse or len(at.curve) + 1 >= self.settings.start_decay_epoch
            at.halvings += int(halving)
