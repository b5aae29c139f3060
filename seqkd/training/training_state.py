"""The state of a training between two updates, saved as checkpoints from which an interrupted training resumes."""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from seqkd.models import checkpoint
from seqkd.training.curve import Epoch
from seqkd.utils import fingerprint

MAX_TIME_SHARE = 0.01  # of the training, for checkpoints at the ends of short epochs
RECORD = "record"  # the tensor that holds a TrainingState as JSON


@dataclass
class TrainingState:
    """How far a training is: everything but its tensors."""

    curve: list[Epoch] = field(default_factory=list)  # the epochs that are done
    epoch_batches: int = 0  # batches of the current epoch that are done
    epoch_nll: float = 0.0  # the loss of these, nats summed over target tokens
    epoch_tokens: int = 0  # target tokens of these
    updates: int = 0
    learning_rate: float = 0.0  # of the last update
    halvings: int = 0  # of the learning rate
    skipped: int = 0  # updates skipped because the loss or the gradient was not finite
    skipped_in_a_row: int = 0  # of these, how many the last updates were


@dataclass(frozen=True)
class StateTensors:
    """The tensors of a training's state. One that the training does not need has no elements."""

    weights: Tensor  # (parameters,)
    exp_avg: Tensor  # (parameters,) Adam's running mean of the gradient
    exp_avg_sq: Tensor  # (parameters,) Adam's running mean of the squared gradient
    best_weights: Tensor  # (parameters,) of the epoch with the lowest dev perplexity
    dropout: Tensor  # (shards, bytes) the states of the random generators
    own_text: Tensor  # (lines, 1 + pieces) the student's translations of this epoch, as `on_policy` stores them

    def copy_from(self, other: Self) -> None:
        """Copy the values of other into these tensors in place."""
        for name, tensor in vars(self).items():
            tensor.copy_(vars(other)[name])


def save(folder: Path, state: TrainingState, tensors: StateTensors) -> None:
    """Write a checkpoint, whose name holds its checksum, and keep the one before it.

    Only the older of the two is fsynced: by now it is mostly on the disk, while to wait for the new one would stall
    the training. After a power cut the new one may be torn; its checksum tells, and the older one is used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".partial-{os.getpid()}"
    written = {name: tensor.detach().cpu() for name, tensor in vars(tensors).items()}
    written[RECORD] = torch.frombuffer(bytearray(json.dumps(asdict(state)).encode()), dtype=torch.uint8)
    try:
        checkpoint.write_tensors(partial, written)
        position = f"{len(state.curve):06d}-{state.epoch_batches:09d}"
        partial.replace(folder / f"state-{position}-{_digest(partial)}.safetensors")
    finally:
        partial.unlink(missing_ok=True)
    *older, _ = _checkpoints(folder)
    for path in older[-1:]:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for path in older[:-1]:
        path.unlink(missing_ok=True)


def latest(folder: Path) -> tuple[TrainingState, StateTensors] | None:
    """Return the newest checkpoint that is intact, or None. A damaged one is deleted with a message on stderr."""
    for path in reversed(_checkpoints(folder)):
        try:
            if path.stem.endswith(_digest(path)):
                return _read(path)
        except FileNotFoundError:
            continue
        except (SafetensorError, OSError):
            pass
        print(f"{path}: this checkpoint is damaged and was deleted; an older one is used, or none.", file=sys.stderr)
        path.unlink(missing_ok=True)
    return None


def _read(path: Path) -> tuple[TrainingState, StateTensors]:
    tensors = load_file(path)
    record: dict[str, Any] = json.loads(tensors.pop(RECORD).numpy().tobytes())
    record["curve"] = [Epoch(*line) for line in record["curve"]]
    return TrainingState(**record), StateTensors(**tensors)


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the newest last."""
    return sorted(folder.glob("state-*.safetensors"))


def _digest(path: Path) -> str:
    return fingerprint.file_sha256(path)[:16]


class CheckpointSaver:
    """Saves a training's state every so many seconds, and at the end of an epoch where that costs next to nothing."""

    def __init__(self, folder: Path | None, interval: float) -> None:
        self.folder, self.interval = folder, interval  # seconds; without a folder nothing is saved
        self.last_saved, self.cost, self.warned = time.monotonic(), 0.0, False  # cost: seconds that the last save took

    def due(self, *, epoch_ends: bool = False) -> bool:
        """Return whether it is time to save."""
        if self.folder is None:
            return False
        waited = time.monotonic() - self.last_saved
        return waited >= (min(self.interval, self.cost / MAX_TIME_SHARE) if epoch_ends else self.interval)

    def save(self, state: TrainingState, tensors: StateTensors) -> None:
        """Save the state. Where that fails, as on a full disk, say so once and let the training go on."""
        if self.folder is None:
            return
        began = time.monotonic()
        try:
            save(self.folder, state, tensors)
        except OSError as error:
            if not self.warned:
                print(f"{self.folder}: the state could not be saved ({error}); training goes on.", file=sys.stderr)
            self.warned = True
        self.last_saved = time.monotonic()
        self.cost = self.last_saved - began
