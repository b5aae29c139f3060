"""Training a network on a text: from scratch, fine-tuning and retraining after pruning are one loop."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqkd.config.schema import Machine, OptimizerSettings
from seqkd.data import batches
from seqkd.data.batches import Batch, TokenizedCorpus
from seqkd.models import losses, perplexity
from seqkd.models.lstm import LSTMNetwork
from seqkd.ops import matmul
from seqkd.ops.cuda import graphs
from seqkd.training import training_state
from seqkd.training.curve import Epoch
from seqkd.training.data_parallel import DataParallelGroup
from seqkd.training.optimizer import ShardedOptimizer, divergence_error
from seqkd.training.teacher import TeacherTargets, TopKCache, make_targets
from seqkd.training.training_state import CheckpointSaver, StateTensors, TrainingState
from seqkd.utils import process_control
from seqkd.utils.errors import StoppedError
from seqkd.utils.progress import Progress

MIN_SHARD_ROWS = 8  # sentences of a batch below which one more share costs more than it brings
MAX_NLL = 700.0  # nats a word of which exp is still a number
SAVE, STOP = 1, 1000  # what the first process may wish for after an update; STOP is added to a signal's number


@dataclass(frozen=True)
class TrainingJob:
    """What is learnt, from what, and how."""

    text: TokenizedCorpus
    dev: TokenizedCorpus
    settings: OptimizerSettings
    seed: int
    alpha: float = 0.0  # weight of Word-KD
    teacher: LSTMNetwork | None = None  # needed when alpha > 0
    kept: TopKCache | None = None  # a shortlist of the teacher's words; None: its whole distribution
    mask: Tensor | None = None  # (parameters,) bool in the order of network.parameters(); False stays exactly zero
    label: str = "train"
    row: str = "student"  # of optim in params.yaml, whose settings these are
    resume: Path | None = None  # a folder for the state, from which an interrupted training goes on


def train(network: LSTMNetwork, lesson: TrainingJob, machine: Machine) -> list[Epoch]:
    """Trains network in place and returns its curve; the same bits whatever the number of processes.

    Takes up lesson.resume where an earlier run ended, and leaves its last state there. A signal to end lets it save its
    state and then raises StoppedError. Raises InputError when too many numbers are not finite.
    """
    shares = max(1, min(lesson.settings.shards, lesson.settings.batch_size // MIN_SHARD_ROWS))
    torch.set_num_threads(1)
    team = DataParallelGroup(network, machine.processes, shards=shares if network.output.device.type == "cpu" else 1)
    teacher = None
    if lesson.teacher is not None and lesson.alpha:
        teacher = make_targets(lesson.teacher, lesson.text, team, lesson.kept)
    state, tensors = TrainingState(), _tensors(team, lesson.settings)
    if lesson.resume is not None and (found := training_state.latest(lesson.resume)) is not None:
        state = found[0]
        tensors.copy_from(found[1])
    with process_control.defer_signals() as asked:
        keeper = CheckpointSaver(lesson.resume, machine.checkpoint_interval)
        curve: list[Epoch] = team.run(_work, network, lesson, teacher, (state, tensors, keeper, asked))
    return curve


def _tensors(team: DataParallelGroup, settings: OptimizerSettings) -> StateTensors:
    """The tensors of a training that begins."""
    none, size = team.weights.new_empty(0), len(torch.Generator(team.weights.device).get_state())
    adam, best = settings.optimizer == "adam", settings.keep_checkpoint == "best"
    return StateTensors(
        weights=team.weights,
        first=team.shared(torch.zeros_like(team.weights)) if adam else none,
        second=team.shared(torch.zeros_like(team.weights)) if adam else none,
        best=team.shared(team.weights.clone()) if best else none,
        dropout=team.shared(torch.zeros(team.shards, size, dtype=torch.uint8)),
    )


def _work(
    team: DataParallelGroup, network: LSTMNetwork, lesson: TrainingJob, teacher: TeacherTargets | None, state: "_State"
) -> list[Epoch]:
    """One process's part of the training."""
    training = _Worker(team, network, lesson, teacher, state)
    at, settings = training.state, lesson.settings
    words = lesson.text.count_target_tokens(range(len(lesson.text.targets)))
    done = words * len(at.curve) + at.words
    told = Progress(words * settings.epochs, unit="words", label=lesson.label, done=done) if team.rank == 0 else None
    with told or nullcontext() as progress:
        if teacher is not None and not _is_finished(at.curve, settings):
            teacher.precompute(team)
        while not _is_finished(at.curve, settings):
            training.epoch(progress)
            training.end_epoch(progress)
    team.barrier()
    if settings.keep_checkpoint == "best" and team.rank == 0:
        team.weights.copy_(training.tensors.best)
    return at.curve


def _is_finished(curve: list[Epoch], settings: OptimizerSettings) -> bool:
    if len(curve) >= settings.epochs:
        return True
    seen = [line.dev_perplexity for line in curve]
    return bool(settings.patience and seen and len(seen) - 1 - seen.index(min(seen)) >= settings.patience)


_Part = tuple[Batch, Tensor, Tensor]  # a share of a batch, and what Batch.words says of it
_State = tuple[TrainingState, StateTensors, CheckpointSaver, Callable[[], int]]


class _Worker:
    """What one process has at hand."""

    def __init__(
        self,
        team: DataParallelGroup,
        network: LSTMNetwork,
        lesson: TrainingJob,
        teacher: TeacherTargets | None,
        state: _State,
    ) -> None:
        self.team, self.network, self.lesson, self.teacher = team, network, lesson, teacher
        self.state, self.tensors, self.keeper, self.asked = state
        self.optimizer = ShardedOptimizer(team, lesson.settings, mask=lesson.mask, state=self.state)
        self.optimizer.load_state(self.tensors)
        self.device = network.output.device
        self.dropout = {share: torch.Generator(self.device) for share in team.local_shards}
        self.read = (
            graphs.GraphedForward(network, lesson.settings.batch_size) if self.device.type == "cuda" else network
        )

    def epoch(self, progress: Progress | None) -> None:
        """What is left of one pass over the text."""
        lesson, at = self.lesson, self.state
        seed = lesson.seed * 100_003 + len(at.curve) + 1
        for share, generator in self.dropout.items():
            generator.manual_seed(seed * 1009 + share + 1)
            if at.batches:
                generator.set_state(self.tensors.dropout[share].clone())  # torch misreads a row of a table
        planned = batches.make_batches(lesson.text, lesson.settings.batch_size, torch.Generator().manual_seed(seed))
        parts = self._parts(planned, at.batches)
        for rows in planned[at.batches :]:
            words = lesson.text.count_target_tokens(rows)
            found = [self._learn(share, part) for share, part in parts.items()]
            parts = self._parts(planned, at.batches + 1)  # while a GPU is still at work
            nats = [float(loss) for loss in found]
            scale = 1.0 / (len(rows) if lesson.settings.loss_normalization == "sentences" else words)
            wished = self.optimizer.update(nats, words, scale=scale, steps_per_epoch=len(planned), wish=self._wish())
            if self.optimizer.lost():
                raise divergence_error(lesson.label, lesson.row, f"{at.skipped} of {at.updates} updates were")
            if progress:
                progress.add(words)
            self._fulfil(wished)

    def _parts(self, planned: list[list[int]], at: int) -> dict[int, "_Part | None"]:
        """This process's shares of the batch at that place of the plan; None: no sentence is left for the share."""
        rows = planned[at] if at < len(planned) else []
        return {share: self._part(rows[share :: self.team.shards]) for share in self.team.local_shards}

    def _part(self, rows: list[int]) -> "_Part | None":
        if not rows:
            return None
        batch = batches.collate(self.lesson.text, rows)
        if self.device.type == "cuda":
            batch = batch.padded(graphs.LENGTH_MULTIPLE)
        places, gold = batch.target_positions(matmul.ROW_MULTIPLE)
        return batch.to(self.device), places.to(self.device), gold.to(self.device)

    def _learn(self, share: int, part: "_Part | None") -> Tensor | float:
        """Leaves the gradient of one share of a batch with the team; its loss, nats summed over words."""
        loss: Tensor | float = 0.0
        if part is not None:
            batch, places, gold = part
            vectors = self.read(batch.source, batch.decoder_input, self.dropout[share]).flatten(0, 1)
            logits = self.network.logits(vectors.index_select(0, places))
            if self.teacher is None:
                found = losses.nll(logits, gold)
            else:
                found = losses.word_kd(logits, gold, self.teacher.targets(batch), alpha=self.lesson.alpha)
            found.backward()  # type: ignore[no-untyped-call]
            loss = found.detach()
        self.team.publish_gradients(share)
        return loss

    def end_epoch(self, progress: Progress | None) -> None:
        """Measures dev, writes the epoch's line of the curve, keeps the best weights, saves."""
        team, at, settings = self.team, self.state, self.lesson.settings
        parts = [
            perplexity.total_nll(self.network, self.lesson.dev, rank=share, size=team.shards)
            for share in team.local_shards
        ]
        wishes = [float(self._wish(epoch_ends=True)), *[0.0] * (len(parts) - 1)]
        nats, words, wished = team.all_reduce(*zip(*parts, strict=True), wishes)
        dev, loss = nats / words, at.nats / at.words if at.words else math.nan
        if not (math.isfinite(loss) and dev < MAX_NLL):
            raise divergence_error(self.lesson.label, self.lesson.row, f"the losses of epoch {len(at.curve) + 1} are")
        at.curve.append(Epoch(len(at.curve) + 1, at.updates, at.learning_rate, loss, math.exp(dev)))
        at.batches, at.nats, at.words = 0, 0.0, 0
        self.optimizer.after_epoch()
        lowest = min(line.dev_perplexity for line in at.curve)
        if settings.keep_checkpoint == "best" and at.curve[-1].dev_perplexity <= lowest and team.rank == 0:
            self.tensors.best.copy_(team.weights)
        if progress:
            left_out = f", {at.skipped} updates left out: not finite" if at.skipped else ""
            perplexity = at.curve[-1].dev_perplexity
            progress.note = f"epoch {len(at.curve)} of {settings.epochs}: dev perplexity {perplexity:.2f}{left_out}"
        self._fulfil(max(wished, SAVE) if _is_finished(at.curve, settings) else wished)

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
        self.team.barrier()
        if self.team.rank == 0:
            self.keeper.save(self.state, self.tensors)
        if wish >= STOP:
            kept = "" if self.lesson.resume is None else "; the state is saved, and the same command goes on from it"
            raise StoppedError(round(wish) - STOP, f"stopped{kept}")
