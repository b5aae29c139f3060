"""Training a network on a text: from scratch, fine-tuning and retraining after pruning are one loop."""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqkd import batches, likelihood, losses, snapshot
from seqkd.batches import Text
from seqkd.config import Machine, Optim
from seqkd.curve import Epoch
from seqkd.errors import InputError
from seqkd.model import Network
from seqkd.progress import Progress
from seqkd.teacher import Teacher
from seqkd.team import Team

FEWEST_ROWS = 8  # sentences of a batch below which one more process costs more than it brings


@dataclass(frozen=True)
class Lesson:
    """What is learnt, from what, and how."""

    text: Text
    dev: Text
    settings: Optim
    seed: int
    alpha: float = 0.0  # weight of Word-KD
    teacher: Network | None = None  # needed when alpha > 0
    mask: Tensor | None = None  # (parameters,) bool in the order of network.parameters(); False stays exactly zero
    label: str = "train"
    resume: Path | None = None  # a folder for the state after each epoch


def train(network: Network, lesson: Lesson, machine: Machine) -> list[Epoch]:
    """Trains network in place and returns its curve. Takes up lesson.resume where an earlier run ended."""
    size = 1
    if network.output.device.type == "cpu":
        size = max(1, min(machine.workers, lesson.settings.batch // FEWEST_ROWS))
    torch.set_num_threads(1)
    team = Team(network, size)
    teacher = Teacher(lesson.teacher, lesson.text, team) if lesson.teacher is not None and lesson.alpha else None
    curve: list[Epoch] = team.run(_work, network, lesson, teacher)
    return curve


def _work(team: Team, network: Network, lesson: Lesson, teacher: Teacher | None) -> list[Epoch]:
    """One process's part of the training."""
    if teacher is not None:
        teacher.read(team)
    pupil = _Pupil(team, network, lesson)
    curve, best = pupil.restore()
    words = lesson.text.tokens(range(len(lesson.text.targets)))
    epochs, seen = lesson.settings.epochs, words * len(curve)
    told = Progress(words * epochs, unit="words", label=lesson.label, done=seen) if team.rank == 0 else nullcontext()
    with told as progress:
        while not _ended(curve, lesson.settings):
            loss = _epoch(pupil, len(curve) + 1, teacher, progress)
            dev = _perplexity(team, network, lesson.dev)
            curve.append(Epoch(len(curve) + 1, pupil.updates, pupil.rate, loss, dev))
            if progress:
                progress.note = f"epoch {len(curve)} of {epochs}: dev perplexity {dev:.2f}"
            pupil.after(curve)
            if dev <= min(line.dev_perplexity for line in curve):
                best = team.weights.clone()
            pupil.save(curve, best)
    team.wait()
    if lesson.settings.keep == "best" and team.rank == 0:
        team.weights.copy_(best)
    return curve


def _perplexity(team: Team, network: Network, text: Text) -> float:
    nats, words = team.total(*likelihood.nats(network, text, rank=team.rank, size=team.size))
    return math.exp(nats / words)


def _ended(curve: list[Epoch], settings: Optim) -> bool:
    if len(curve) >= settings.epochs:
        return True
    seen = [line.dev_perplexity for line in curve]
    return bool(settings.patience and seen and len(seen) - 1 - seen.index(min(seen)) >= settings.patience)


def _epoch(pupil: "_Pupil", epoch: int, teacher: Teacher | None, progress: Progress | None) -> float:
    """One pass over the text; the mean loss per target word."""
    team, network, lesson = pupil.team, pupil.network, pupil.lesson
    order = torch.Generator().manual_seed(lesson.seed * 100_003 + epoch)
    dropout = torch.Generator(network.output.device).manual_seed((lesson.seed * 100_003 + epoch) * 1009 + team.rank + 1)
    planned = batches.plan(lesson.text, lesson.settings.batch, order)
    nats, words = 0.0, 0
    for rows, mine in zip(planned, batches.shares(planned, team.rank, team.size), strict=True):
        tokens = lesson.text.tokens(rows)
        if mine:
            batch = batches.make(lesson.text, mine).to(network.output.device)
            places, gold = batch.words()
            vectors = network(batch.source, batch.entered, dropout).flatten(0, 1)
            logits = network.logits(vectors.index_select(0, places))
            if teacher is None:
                loss = losses.nll(logits, gold)
            else:
                loss = losses.word_kd(logits, gold, teacher.probabilities(batch), alpha=lesson.alpha)
            loss.backward()  # type: ignore[no-untyped-call]
            nats += float(loss.detach())
        pupil.update(1.0 / (len(rows) if lesson.settings.loss_per == "sentence" else tokens), len(planned))
        words += tokens
        if progress:
            progress.add(tokens)
    mean = team.total(nats)[0] / words
    if not math.isfinite(mean):
        raise InputError(
            f"{lesson.label}: the loss of epoch {epoch} is not finite; lower its rate in optim of params.yaml."
        )
    return mean


class _Pupil:
    """The optimiser's side of one process: its slice of the flat weights, gradients, mask and moments."""

    def __init__(self, team: Team, network: Network, lesson: Lesson) -> None:
        self.team, self.network, self.lesson = team, network, lesson
        self.updates, self.rate, self.halvings, self.halving = 0, 0.0, 0, False
        self.slice = team.slice
        self.weights = team.weights[self.slice]
        self.weights.grad = torch.zeros_like(self.weights)
        self.mask = None if lesson.mask is None else lesson.mask[self.slice].to(self.weights.dtype)
        if lesson.settings.method == "adam":
            self.optimiser: torch.optim.Optimizer = torch.optim.Adam([self.weights], fused=True)
        else:
            self.optimiser = torch.optim.SGD([self.weights])

    def update(self, scale: float, an_epoch: int) -> None:
        """One step from the gradients of all processes, scaled, then clipped to the settings' norm."""
        team, settings, gradient = self.team, self.lesson.settings, self.weights.grad
        assert gradient is not None
        team.give()
        team.wait()
        torch.sum(team.gradients[:, self.slice], 0, out=gradient)
        norm = math.sqrt(team.total(float(torch.dot(gradient, gradient)))[0]) * scale
        gradient.mul_(scale * min(1.0, settings.clip / (norm + 1e-6)))
        self.rate = self.optimiser.param_groups[0]["lr"] = self._rate(an_epoch)
        self.optimiser.step()
        if self.mask is not None:
            self.weights.mul_(self.mask)  # after the step, so that a pruned weight never comes back
        self.updates += 1
        team.wait()

    def _rate(self, an_epoch: int) -> float:
        settings, highest = self.lesson.settings, self.lesson.settings.rate
        rise = min(1.0, (self.updates + 1) / (settings.warmup + 1))
        if settings.schedule == "cosine":
            return highest * rise * 0.5 * (1 + math.cos(math.pi * self.updates / (an_epoch * settings.epochs)))
        return highest * rise * 0.5**self.halvings

    def after(self, curve: list[Epoch]) -> None:
        """The paper's rule: halve after every epoch from the first that got worse, or from a fixed one."""
        worse = len(curve) > 1 and curve[-1].dev_perplexity > curve[-2].dev_perplexity
        if self.lesson.settings.schedule == "halve":
            self.halving = self.halving or worse or len(curve) + 1 >= self.lesson.settings.halve_from
            self.halvings += int(self.halving)

    def save(self, curve: list[Epoch], best: Tensor) -> None:
        if self.lesson.resume is None:
            return
        moments = {name: value for name, value in self.optimiser.state[self.weights].items() if value is not None}
        snapshot.save(self.lesson.resume / f"{len(curve)}-{self.team.rank}", moments)
        self.team.wait()
        if self.team.rank == 0:
            snapshot.save(self.lesson.resume / f"{len(curve)}-weights", {"weights": self.team.weights, "best": best})
            snapshot.commit(self.lesson.resume, [line._asdict() for line in curve], extra=[self.updates, self.halvings])

    def restore(self) -> tuple[list[Epoch], Tensor]:
        """The curve and best weights so far: empty and the present ones when there is no state to take up."""
        found = None if self.lesson.resume is None else snapshot.latest(self.lesson.resume)
        self.team.wait()
        if found is None or self.lesson.resume is None:
            return [], self.team.weights.clone()
        lines, (self.updates, self.halvings) = found
        self.halving = self.halvings > 0
        moments = snapshot.load(self.lesson.resume / f"{len(lines)}-{self.team.rank}")
        self.optimiser.state[self.weights].update(moments)
        saved = snapshot.load(self.lesson.resume / f"{len(lines)}-weights")
        if self.team.rank == 0:
            self.team.weights.copy_(saved["weights"])
        self.team.wait()
        return [Epoch(**line) for line in lines], saved["best"].to(self.team.weights.device)
