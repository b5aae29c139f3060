"""The optimiser's side of a training: gradients in, weights, moments and learning rate out, bad numbers left out."""

import math

import torch
from torch import Tensor

from seqkd.config import Optim
from seqkd.errors import InputError
from seqkd.snapshot import Standing, Tensors
from seqkd.team import Team

IN_A_ROW = 10  # updates left out one after the other that end a training ...
SHARE = 0.01  # ... and the share of all its updates, once more than IN_A_ROW are


def advice(label: str, row: str, what: str) -> InputError:
    """What ends a training whose numbers run away. row: of optim."""
    return InputError(
        f"{label}: {what} not finite; lower optim.{row}.rate or optim.{row}.clip in params.yaml. The last good state is"
        " kept."
    )


class Pupil:
    """One process's shares of the flat weights, with their gradients and moments."""

    def __init__(self, team: Team, settings: Optim, *, mask: Tensor | None, standing: Standing) -> None:
        self.team, self.settings, self.standing = team, settings, standing
        self.slices = [team.slice(share) for share in team.mine]
        self.weights = [team.weights[piece] for piece in self.slices]
        self.masks = [] if mask is None else [mask[piece].to(team.weights) for piece in self.slices]
        for weights in self.weights:
            weights.grad = torch.zeros_like(weights)
        self.optimiser: torch.optim.Optimizer = torch.optim.SGD(self.weights)
        if settings.method == "adam":
            self.optimiser = torch.optim.Adam(self.weights, betas=(0.9, settings.beta2), fused=True)

    def take_up(self, tensors: Tensors) -> None:
        """Lets the optimiser's moments lie in tensors, whose values it goes on from."""
        if self.settings.method != "adam":
            return
        step = float(self.standing.updates - self.standing.skipped)
        for weights, piece in zip(self.weights, self.slices, strict=True):
            self.optimiser.state[weights] = {
                "step": torch.tensor(step, device=weights.device),
                "exp_avg": tensors.first[piece],
                "exp_avg_sq": tensors.second[piece],
            }

    def update(self, nats: list[float], words: int, *, scale: float, an_epoch: int, wish: int) -> int:
        """One step from the gradients of all shares, scaled, then clipped to the settings' norm.

        nats: the loss of each of this process's shares; words: of the whole batch. A step whose loss or gradient is not
        finite is left out. Returns the sum of all processes' wishes. Raises InputError when too many are left out.
        """
        team, at = self.team, self.standing
        team.wait()
        wishes = [float(wish), *[0.0] * (len(nats) - 1)]
        loss, square, wished = team.total(nats, [self._gather(index) for index in range(len(nats))], wishes)
        norm = math.sqrt(square) * scale
        self._step(scale * min(1.0, self.settings.clip / (norm + 1e-6)), an_epoch, good=math.isfinite(loss + norm))
        if at.in_a_row == 0:
            at.nats += loss
            at.words += words
        at.updates += 1
        at.batches += 1
        team.wait()
        return round(wished)

    def _gather(self, index: int) -> float:
        """Sums a slice's gradient over the shares of the batch, in their order; its squared norm."""
        gradient = self.weights[index].grad
        assert gradient is not None
        torch.sum(self.team.gradients[:, self.slices[index]], 0, out=gradient)
        return float(torch.dot(gradient, gradient))

    def _step(self, scale: float, an_epoch: int, *, good: bool) -> None:
        at = self.standing
        at.rate = self.optimiser.param_groups[0]["lr"] = self._rate(an_epoch)
        at.in_a_row = 0 if good else at.in_a_row + 1
        if not good:
            at.skipped += 1
            return
        for weights in self.weights:
            assert weights.grad is not None
            weights.grad.mul_(scale)
        self.optimiser.step()
        for weights, mask in zip(self.weights, self.masks, strict=bool(self.masks)):
            weights.mul_(mask)  # after the step, so that a pruned weight never comes back

    def lost(self) -> bool:
        """Whether too many updates were left out for the training to come to anything."""
        at = self.standing
        return at.in_a_row >= IN_A_ROW or at.skipped > max(IN_A_ROW, SHARE * at.updates)

    def _rate(self, an_epoch: int) -> float:
        settings, updates, highest = self.settings, self.standing.updates, self.settings.rate
        rise = min(1.0, (updates + 1) / (settings.warmup + 1))
        if settings.schedule == "cosine":
            return highest * rise * 0.5 * (1 + math.cos(math.pi * updates / (an_epoch * settings.epochs)))
        return highest * rise * 0.5**self.standing.halvings

    def after_epoch(self) -> None:
        """The paper's rule: halve after every epoch from the first that got worse, or from a fixed one."""
        at = self.standing
        worse = len(at.curve) > 1 and at.curve[-1].dev_perplexity > at.curve[-2].dev_perplexity
        if self.settings.schedule == "halve":
            halving = at.halvings > 0 or worse or len(at.curve) + 1 >= self.settings.halve_from
            at.halvings += int(halving)
