"""Training a network on a text: from scratch, fine-tuning and retraining after pruning are one loop."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqkd import batches, graphed, lifetime, likelihood, losses, snapshot
from seqkd.batches import Batch, Text
from seqkd.config import Machine, Optim
from seqkd.curve import Epoch
from seqkd.errors import StoppedError
from seqkd.model import Network
from seqkd.progress import Progress
from seqkd.pupil import Pupil, advice
from seqkd.snapshot import Keeper, Standing, Tensors
from seqkd.teacher import Distribution, Kept, distribution
from seqkd.team import Team

FEWEST_ROWS = 8  # sentences of a batch below which one more share costs more than it brings
HIGHEST = 700.0  # nats a word of which exp is still a number
SAVE, STOP = 1, 1000  # what the first process may wish for after an update; STOP is added to a signal's number


@dataclass(frozen=True)
class Lesson:
    """What is learnt, from what, and how."""

    text: Text
    dev: Text
    settings: Optim
    seed: int
    alpha: float = 0.0  # weight of Word-KD
    teacher: Network | None = None  # needed when alpha > 0
    kept: Kept | None = None  # a shortlist of the teacher's words; None: its whole distribution
    mask: Tensor | None = None  # (parameters,) bool in the order of network.parameters(); False stays exactly zero
    label: str = "train"
    row: str = "student"  # of optim in params.yaml, whose settings these are
    resume: Path | None = None  # a folder for the state, from which an interrupted training goes on


def train(network: Network, lesson: Lesson, machine: Machine) -> list[Epoch]:
    """Trains network in place and returns its curve; the same bits whatever the number of processes.

    Takes up lesson.resume where an earlier run ended, and leaves its last state there. A signal to end lets it save its
    state and then raises StoppedError. Raises InputError when too many numbers are not finite.
    """
    shares = max(1, min(lesson.settings.shares, lesson.settings.batch // FEWEST_ROWS))
    torch.set_num_threads(1)
    team = Team(network, machine.workers, shares=shares if network.output.device.type == "cpu" else 1)
    teacher = None
    if lesson.teacher is not None and lesson.alpha:
        teacher = distribution(lesson.teacher, lesson.text, team, lesson.kept)
    standing, tensors = Standing(), _tensors(team, lesson.settings)
    if lesson.resume is not None and (found := snapshot.latest(lesson.resume)) is not None:
        standing = found[0]
        tensors.take(found[1])
    with lifetime.waits_on_signals() as asked:
        keeper = Keeper(lesson.resume, machine.save_every)
        curve: list[Epoch] = team.run(_work, network, lesson, teacher, (standing, tensors, keeper, asked))
    return curve


def _tensors(team: Team, settings: Optim) -> Tensors:
    """The tensors of a training that begins."""
    none, size = team.weights.new_empty(0), len(torch.Generator(team.weights.device).get_state())
    adam, best = settings.method == "adam", settings.keep == "best"
    return Tensors(
        weights=team.weights,
        first=team.shared(torch.zeros_like(team.weights)) if adam else none,
        second=team.shared(torch.zeros_like(team.weights)) if adam else none,
        best=team.shared(team.weights.clone()) if best else none,
        dropout=team.shared(torch.zeros(team.shares, size, dtype=torch.uint8)),
    )


def _work(team: Team, network: Network, lesson: Lesson, teacher: Distribution | None, state: "_State") -> list[Epoch]:
    """One process's part of the training."""
    training = _Training(team, network, lesson, teacher, state)
    at, settings = training.standing, lesson.settings
    words = lesson.text.tokens(range(len(lesson.text.targets)))
    done = words * len(at.curve) + at.words
    told = Progress(words * settings.epochs, unit="words", label=lesson.label, done=done) if team.rank == 0 else None
    with told or nullcontext() as progress:
        if teacher is not None and not _ended(at.curve, settings):
            teacher.read(team)
        while not _ended(at.curve, settings):
            training.epoch(progress)
            training.end_epoch(progress)
    team.wait()
    if settings.keep == "best" and team.rank == 0:
        team.weights.copy_(training.tensors.best)
    return at.curve


def _ended(curve: list[Epoch], settings: Optim) -> bool:
    if len(curve) >= settings.epochs:
        return True
    seen = [line.dev_perplexity for line in curve]
    return bool(settings.patience and seen and len(seen) - 1 - seen.index(min(seen)) >= settings.patience)


_Part = tuple[Batch, Tensor, Tensor]  # a share of a batch, and what Batch.words says of it
_State = tuple[Standing, Tensors, Keeper, Callable[[], int]]


class _Training:
    """What one process has at hand."""

    def __init__(
        self, team: Team, network: Network, lesson: Lesson, teacher: Distribution | None, state: _State
    ) -> None:
        self.team, self.network, self.lesson, self.teacher = team, network, lesson, teacher
        self.standing, self.tensors, self.keeper, self.asked = state
        self.pupil = Pupil(team, lesson.settings, mask=lesson.mask, standing=self.standing)
        self.pupil.take_up(self.tensors)
        self.device = network.output.device
        self.dropout = {share: torch.Generator(self.device) for share in team.mine}
        self.read = graphed.Passes(network, lesson.settings.batch) if self.device.type == "cuda" else network

    def epoch(self, progress: Progress | None) -> None:
        """What is left of one pass over the text."""
        lesson, at = self.lesson, self.standing
        seed = lesson.seed * 100_003 + len(at.curve) + 1
        for share, generator in self.dropout.items():
            generator.manual_seed(seed * 1009 + share + 1)
            if at.batches:
                generator.set_state(self.tensors.dropout[share].clone())  # torch misreads a row of a table
        planned = batches.plan(lesson.text, lesson.settings.batch, torch.Generator().manual_seed(seed))
        parts = self._parts(planned, at.batches)
        for rows in planned[at.batches :]:
            words = lesson.text.tokens(rows)
            found = [self._learn(share, part) for share, part in parts.items()]
            parts = self._parts(planned, at.batches + 1)  # while a GPU is still at work
            nats = [float(loss) for loss in found]
            scale = 1.0 / (len(rows) if lesson.settings.loss_per == "sentence" else words)
            wished = self.pupil.update(nats, words, scale=scale, an_epoch=len(planned), wish=self._wish())
            if self.pupil.lost():
                raise advice(lesson.label, lesson.row, f"{at.skipped} of {at.updates} updates were")
            if progress:
                progress.add(words)
            self._fulfil(wished)

    def _parts(self, planned: list[list[int]], at: int) -> dict[int, "_Part | None"]:
        """This process's shares of the batch at that place of the plan; None: no sentence is left for the share."""
        rows = planned[at] if at < len(planned) else []
        return {share: self._part(rows[share :: self.team.shares]) for share in self.team.mine}

    def _part(self, rows: list[int]) -> "_Part | None":
        if not rows:
            return None
        batch = batches.make(self.lesson.text, rows)
        if self.device.type == "cuda":
            batch = batch.padded(graphed.LENGTHS)
        places, gold = batch.words()
        return batch.to(self.device), places.to(self.device), gold.to(self.device)

    def _learn(self, share: int, part: "_Part | None") -> Tensor | float:
        """Leaves the gradient of one share of a batch with the team; its loss, nats summed over words."""
        loss: Tensor | float = 0.0
        if part is not None:
            batch, places, gold = part
            vectors = self.read(batch.source, batch.entered, self.dropout[share]).flatten(0, 1)
            logits = self.network.logits(vectors.index_select(0, places))
            if self.teacher is None:
                found = losses.nll(logits, gold)
            else:
                found = losses.word_kd(logits, gold, self.teacher.targets(batch), alpha=self.lesson.alpha)
            found.backward()  # type: ignore[no-untyped-call]
            loss = found.detach()
        self.team.give(share)
        return loss

    def end_epoch(self, progress: Progress | None) -> None:
        """Measures dev, writes the epoch's line of the curve, keeps the best weights, saves."""
        team, at, settings = self.team, self.standing, self.lesson.settings
        parts = [likelihood.nats(self.network, self.lesson.dev, rank=share, size=team.shares) for share in team.mine]
        wishes = [float(self._wish(epoch_ends=True)), *[0.0] * (len(parts) - 1)]
        nats, words, wished = team.total(*zip(*parts, strict=True), wishes)
        dev, loss = nats / words, at.nats / at.words if at.words else math.nan
        if not (math.isfinite(loss) and dev < HIGHEST):
            raise advice(self.lesson.label, self.lesson.row, f"the losses of epoch {len(at.curve) + 1} are")
        at.curve.append(Epoch(len(at.curve) + 1, at.updates, at.rate, loss, math.exp(dev)))
        at.batches, at.nats, at.words = 0, 0.0, 0
        self.pupil.after_epoch()
        lowest = min(line.dev_perplexity for line in at.curve)
        if settings.keep == "best" and at.curve[-1].dev_perplexity <= lowest and team.rank == 0:
            self.tensors.best.copy_(team.weights)
        if progress:
            left_out = f", {at.skipped} updates left out: not finite" if at.skipped else ""
            perplexity = at.curve[-1].dev_perplexity
            progress.note = f"epoch {len(at.curve)} of {settings.epochs}: dev perplexity {perplexity:.2f}{left_out}"
        self._fulfil(max(wished, SAVE) if _ended(at.curve, settings) else wished)

    def _wish(self, *, epoch_ends: bool = False) -> int:
        """What the first process wants of all after this update."""
        if self.team.rank:
            return 0
        if asked := self.asked():
            return STOP + asked
        return SAVE if self.keeper.due(epoch_ends=epoch_ends) else 0

    def _fulfil(self, wish: float) -> None:
        if not wish:
            return
        for share, generator in self.dropout.items():
            self.tensors.dropout[share] = generator.get_state()
        self.team.wait()
        if self.team.rank == 0:
            self.keeper.save(self.standing, self.tensors)
        if wish >= STOP:
            kept = "" if self.lesson.resume is None else "; the state is saved, and the same command goes on from it"
            raise StoppedError(round(wish) - STOP, f"stopped{kept}")
