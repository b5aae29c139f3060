"""The training loop: training from scratch, fine-tuning and retraining after pruning are all this one."""

import math
import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from seqkd.config.machine import Machine
from seqkd.config.schema import OptimizerSettings
from seqkd.data import batches
from seqkd.data.batches import Batch, TokenizedCorpus
from seqkd.models import losses, perplexity
from seqkd.models.interface import Network
from seqkd.ops import matmul
from seqkd.ops.cuda import graphs
from seqkd.training import on_policy, ranks, training_state
from seqkd.training.curve import Epoch
from seqkd.training.data_parallel import DataParallelGroup
from seqkd.training.graphed_forward import GraphedForward
from seqkd.training.live import LiveLog
from seqkd.training.on_policy import Search
from seqkd.training.optimizer import ShardedOptimizer
from seqkd.training.ranks import Ranks
from seqkd.training.teacher import TeacherTargets, TopKCache, make_targets
from seqkd.training.training_state import CheckpointSaver, StateTensors, TrainingState
from seqkd.utils import process_control
from seqkd.utils.errors import InputError, StoppedError
from seqkd.utils.progress import Progress

MIN_SHARD_ROWS = 8  # sentences; smaller shards of a batch cost more than another process saves
MAX_NLL = 700.0  # nats per target token; the perplexity of more is too large for a float


class Control(IntEnum):
    """What every process does after an update; of what the ranks say the largest holds."""

    CONTINUE = 0
    SAVE = 1
    STOP = 2  # save, then stop


@dataclass(frozen=True)
class TrainingJob:
    """What to learn and from what, all in memory."""

    text: TokenizedCorpus
    dev: TokenizedCorpus
    settings: OptimizerSettings
    seed: int
    alpha: float = 0.0  # weight of word-level KD
    teacher: Network | None = None  # needed where alpha > 0; None: an external teacher's top-k targets are stored
    top_k_cache: TopKCache | None = None  # keep only the teacher's top-k targets, there; None: its full distribution
    mask: Tensor | None = None  # (parameters,) bool in the order of network.parameters(); False stays exactly zero
    label: str = "train"  # of the progress bar and of messages
    optim: str = "student"  # the section of optim in params.yaml that the settings are from
    key: str = ""  # of settings, files and weights: equal on all ranks
    resume: Path | None = None  # the folder of the checkpoints, from which an interrupted training resumes
    live: Path | None = None  # the folder of what the training tells while it runs
    search: Search | None = None  # on-policy: the targets are what it finds, renewed in each epoch; needs alpha > 0


def train(network: Network, job: TrainingJob, machine: Machine) -> list[Epoch]:
    """Train network in place and return its curve; the bits do not depend on the number of processes and ranks.

    Resumes from the newest checkpoint in rank 0's job.resume, and leaves the last state there. On a signal it saves the
    state and raises StoppedError. Raises InputError when the training diverges or a rank is lost.
    """
    torch.set_num_threads(1)
    connected = ranks.connect(job.key, network.device, mixed=machine.mixed)
    group = DataParallelGroup(network, machine.processes, shards=_shards(network, job, connected), ranks=connected)
    teacher = None
    if job.alpha:
        teacher = make_targets(job.teacher, job.text, group, job.top_k_cache, changing=job.search is not None)
    state, tensors = TrainingState(), _new_tensors(group, job)
    if job.resume is not None and group.is_main and (checkpoint := training_state.latest(job.resume)) is not None:
        state = checkpoint[0]
        tensors.copy_from(checkpoint[1])
    state = connected.broadcast(state)
    connected.broadcast_tensors(list(vars(tensors).values()))
    with process_control.defer_signals() as stop_requested:
        saver = CheckpointSaver(job.resume, machine.checkpoint_interval)
        setup = _Setup(network, job, teacher, state, tensors, saver, stop_requested)
        curve: list[Epoch] = group.run(_work, setup)
    return curve


def _shards(network: Network, job: TrainingJob, connected: Ranks) -> int:
    """Return how many shards a batch is split into; a GPU works on one. Raise InputError where ranks have none."""
    if network.device.type != "cpu":
        return connected.world_size
    shards = max(1, min(job.settings.shards, job.settings.batch_size // MIN_SHARD_ROWS))
    if shards < connected.world_size:
        raise InputError(
            f"{job.label}: {connected.world_size} ranks for a batch of {shards} parts; start fewer, or raise"
            f" optim.{job.optim}.shards in params.yaml (a part has {MIN_SHARD_ROWS} sentences or more)."
        )
    return shards


def _new_tensors(group: DataParallelGroup, job: TrainingJob) -> StateTensors:
    """Return the tensors of a training that begins."""
    unused, bytes_per_generator = group.weights.new_empty(0), len(torch.Generator(group.weights.device).get_state())
    adam, best = job.settings.optimizer == "adam", job.settings.keep_checkpoint == "best"
    return StateTensors(
        weights=group.weights,
        exp_avg=group.shared(torch.zeros_like(group.weights)) if adam else unused,
        exp_avg_sq=group.shared(torch.zeros_like(group.weights)) if adam else unused,
        best_weights=group.shared(group.weights.clone()) if best else unused,
        dropout=group.shared(torch.zeros(group.shards, bytes_per_generator, dtype=torch.uint8)),
        own_text=group.shared(on_policy.empty_store(job.text.sources)) if job.search else unused,
    )


class _Setup(NamedTuple):
    """What every process of a training works with."""

    network: Network
    job: TrainingJob
    teacher: TeacherTargets | None
    state: TrainingState
    tensors: StateTensors
    saver: CheckpointSaver
    stop_requested: Callable[[], int]  # the number of the signal that asked for the end, or 0


def _work(group: DataParallelGroup, setup: _Setup) -> list[Epoch]:
    """Do one process's part of the training; return the curve."""
    worker, job, state = _Worker(group, setup), setup.job, setup.state
    with _progress_bar(job, state) if group.is_main else nullcontext() as bar:
        if setup.teacher is not None and not _is_finished(state.curve, job.settings):
            setup.teacher.precompute(group)
        while not _is_finished(state.curve, job.settings):
            worker.train_epoch(bar)
            worker.end_epoch(bar)
    group.barrier()
    if job.settings.keep_checkpoint == "best" and group.local_rank == 0:
        group.weights.copy_(setup.tensors.best_weights)
    return state.curve


def _progress_bar(job: TrainingJob, state: TrainingState) -> Progress:
    tokens = job.text.target_tokens
    done = tokens * len(state.curve) + state.epoch_tokens
    return Progress(tokens * job.settings.epochs, unit="tokens", label=job.label, done=done)


def _is_finished(curve: Sequence[Epoch], settings: OptimizerSettings) -> bool:
    """Return whether all epochs are done, or early stopping ends the training: patience epochs without a better one."""
    if len(curve) >= settings.epochs:
        return True
    perplexities = [epoch.dev_perplexity for epoch in curve]
    if not settings.patience or not perplexities:
        return False
    best = perplexities.index(min(perplexities))
    return len(perplexities) - 1 - best >= settings.patience


def divergence_error(job: TrainingJob, diverged: str) -> InputError:
    """Return the error that ends a training which diverged; diverged: what is not finite, with its verb."""
    return InputError(
        f"{job.label}: {diverged} not finite; lower optim.{job.optim}.learning_rate or"
        f" optim.{job.optim}.max_grad_norm in params.yaml. The last good state is kept."
    )


class _Shard(NamedTuple):
    """One shard of a batch, on the device."""

    batch: Batch
    positions: Tensor  # of the target tokens in batch.labels.flatten(), as Batch.target_positions pads them
    labels: Tensor  # (tokens,) ids


class _Worker:
    """One process of a training."""

    def __init__(self, group: DataParallelGroup, setup: _Setup) -> None:
        self.group, self.network, self.job, self.teacher = group, setup.network, setup.job, setup.teacher
        self.state, self.tensors, self.saver = setup.state, setup.tensors, setup.saver
        self.stop_requested, settings = setup.stop_requested, setup.job.settings
        self.optimizer = ShardedOptimizer(group, settings, mask=self.job.mask, state=self.state)
        self.optimizer.load_state(self.tensors)
        self.text = self.job.text
        self.device = self.network.device
        self.dropout_generators = {shard: torch.Generator(self.device) for shard in group.local_shards}
        on_gpu = self.device.type == "cuda"
        self.forward = GraphedForward(self.network, settings.batch_size) if on_gpu else self.network
        self.live: LiveLog | None = None
        if self.job.live is not None and group.is_main:
            self.live = LiveLog(self.job.live, step=self.state.updates)

    def train_epoch(self, bar: Progress | None) -> None:
        """Train on the batches of the current epoch that are left."""
        first = self.state.epoch_batches
        if self.job.search is not None:
            self._renew_text(self.job.search, keep=first > 0)
        text = self.text
        seed = self.job.seed * 100_003 + len(self.state.curve) + 1
        self._restore_dropout(seed)
        order = torch.Generator().manual_seed(seed)
        planned = batches.make_batches(text, self.job.settings.batch_size, order)
        shards = self._load_shards(planned, first)
        for index, rows in enumerate(planned[first:], start=first):
            shard_losses = [self._forward_backward(shard, part) for shard, part in shards.items()]
            shards = self._load_shards(planned, index + 1)  # while a GPU is still at work
            self._update(rows, shard_losses, steps_per_epoch=len(planned))
            if bar:
                bar.add(self.job.text.count_target_tokens(rows))
            self._tell()
            self._obey(self.group.flag)

    def _renew_text(self, search: Search, *, keep: bool) -> None:
        """Let the network translate the sources anew; keep: an epoch goes on, whose translations are in the state."""
        store = self.tensors.own_text
        if not keep:
            on_policy.translate(self.network, self.job.text, search, self.group, store)
        self.text = on_policy.read(self.job.text, store)

    def _restore_dropout(self, seed: int) -> None:
        """Seed the generators of dropout for an epoch, or resume them in the middle of one."""
        for shard, generator in self.dropout_generators.items():
            generator.manual_seed(seed * 1009 + shard + 1)
            if self.state.epoch_batches:
                generator.set_state(self.tensors.dropout[shard].clone())  # torch misreads a row of a table

    def _load_shards(self, planned: Sequence[list[int]], index: int) -> dict[int, _Shard | None]:
        """Return this process's shards of a batch. None: the batch has no sentence for that shard."""
        rows = planned[index] if index < len(planned) else []
        return {shard: self._load_shard(rows[shard :: self.group.shards]) for shard in self.group.local_shards}

    def _load_shard(self, rows: list[int]) -> _Shard | None:
        if not rows:
            return None
        batch = batches.collate(self.text, rows)
        if self.device.type == "cuda":
            batch = batch.padded(graphs.LENGTH_MULTIPLE)
        positions, labels = batch.target_positions(matmul.ROW_MULTIPLE)
        return _Shard(batch.to(self.device), positions.to(self.device), labels.to(self.device))

    def _forward_backward(self, shard: int, part: _Shard | None) -> Tensor | float:
        """Publish the gradient of one shard of a batch; return its loss, nats summed over target tokens."""
        loss: Tensor | float = 0.0
        if part is not None:
            loss = self._loss(part, self.dropout_generators[shard])
            loss.backward()  # type: ignore[no-untyped-call]
            loss = loss.detach()
        self.group.publish_gradients(shard)
        return loss

    def _loss(self, part: _Shard, dropout: torch.Generator) -> Tensor:
        """Return the NLL, with a teacher mixed with word-level KD: a scalar, nats summed over target tokens."""
        batch, positions, labels = part
        vectors = self.forward(batch.source, batch.decoder_input, dropout).flatten(0, 1)  # (T B, H)
        logits = self.network.logits(vectors.index_select(0, positions))  # (tokens and padding, V)
        if self.teacher is None:
            return losses.nll(logits, labels)
        return losses.word_kd(logits, labels, self.teacher.targets(batch), alpha=self.job.alpha)

    def _update(self, rows: Sequence[int], shard_losses: Sequence[Tensor | float], *, steps_per_epoch: int) -> None:
        """Take one optimizer step, in which the control flag reaches every process."""
        tokens, settings = self.text.count_target_tokens(rows), self.job.settings
        scale = 1.0 / (len(rows) if settings.loss_normalization == "sentences" else tokens)
        nats = [float(loss) for loss in shard_losses]  # waits for a GPU
        self._broadcast_control()
        self.optimizer.update(nats, tokens, scale=scale, steps_per_epoch=steps_per_epoch)
        if self.optimizer.diverged():
            raise divergence_error(self.job, f"{self.state.skipped} of {self.state.updates} updates were")

    def _tell(self) -> None:
        """Tell how the training goes, where somebody wants to know."""
        state = self.state
        if self.live and state.epoch_tokens:
            values = {"train/loss": state.epoch_nll / state.epoch_tokens, "train/learning_rate": state.learning_rate}
            self.live.update(state.updates, tokens=state.epoch_tokens, values=values)

    def end_epoch(self, bar: Progress | None) -> None:
        """Measure dev perplexity, add the epoch to the curve, keep the best weights, and save when it is time to."""
        state, dev_nll = self.state, self._dev_nll()
        train_loss = state.epoch_nll / state.epoch_tokens if state.epoch_tokens else math.nan
        if not (math.isfinite(train_loss) and dev_nll < MAX_NLL):
            raise divergence_error(self.job, f"the losses of epoch {len(state.curve) + 1} are")
        epoch = Epoch(len(state.curve) + 1, state.updates, state.learning_rate, train_loss, math.exp(dev_nll))
        state.curve.append(epoch)
        state.epoch_batches, state.epoch_nll, state.epoch_tokens = 0, 0.0, 0
        self.optimizer.end_epoch()
        if self.live:
            self.live.end_epoch(state.updates, dev_perplexity=epoch.dev_perplexity)
        self._keep_best_weights()
        if bar:
            bar.note = self._note(epoch)
        finished = _is_finished(state.curve, self.job.settings)
        self._obey(max(self.group.flag, Control.SAVE) if finished else self.group.flag)

    def _dev_nll(self) -> float:
        """Return the mean NLL of the dev targets, nats per target token; the control flag travels along."""
        shards, dev = self.group.local_shards, self.job.dev
        parts = [perplexity.total_nll(self.network, dev, rank=shard, size=self.group.shards) for shard in shards]
        self._broadcast_control(epoch_ends=True)
        nats, tokens = self.group.all_reduce(*zip(*parts, strict=True))
        return nats / tokens

    def _keep_best_weights(self) -> None:
        curve = self.state.curve
        is_best = curve[-1].dev_perplexity <= min(epoch.dev_perplexity for epoch in curve)
        if self.job.settings.keep_checkpoint == "best" and is_best and self.group.local_rank == 0:
            self.tensors.best_weights.copy_(self.group.weights)

    def _note(self, epoch: Epoch) -> str:
        skipped = f", {self.state.skipped} updates skipped: not finite" if self.state.skipped else ""
        epochs = self.job.settings.epochs
        return f"epoch {epoch.epoch} of {epochs}: dev perplexity {epoch.dev_perplexity:.2f}{skipped}"

    def _broadcast_control(self, *, epoch_ends: bool = False) -> None:
        """Decide what all processes do after the next all_reduce: every rank may stop them, the main one may save."""
        due = self.group.is_main and self.saver.due(epoch_ends=epoch_ends)
        control = Control.SAVE if due else Control.CONTINUE
        self.group.broadcast_flag(Control.STOP if self.stop_requested() else control)

    def _obey(self, flag: int) -> None:
        """Save the state, or save it and stop, as the ranks said. Raises StoppedError to stop."""
        if flag == Control.CONTINUE:
            return
        for shard, generator in self.dropout_generators.items():
            self.tensors.dropout[shard] = generator.get_state()
        self.group.gather_rows(self.tensors.dropout)
        if self.job.settings.optimizer == "adam":
            self.group.gather_slices(self.tensors.exp_avg, self.tensors.exp_avg_sq)
        if self.group.is_main:
            self.saver.save(self.state, self.tensors)
        if flag == Control.STOP:
            # All stay until the state is saved: where one exits, its torchrun or the first process ends its neighbours.
            self.group.barrier_of_ranks()
            saved = "" if self.job.resume is None else "; the state is saved, and the same command resumes from it"
            raise StoppedError(self.stop_requested() or signal.SIGTERM, f"stopped{saved}")
