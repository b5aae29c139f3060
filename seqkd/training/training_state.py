"""The state of a training between two updates, kept on disk to go on from after an interruption."""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqkd.training.curve import Epoch
from seqkd.utils import fingerprint

CHEAP = 0.01  # the share of the time that saving at the ends of short epochs may take
RECORD = "record"


@dataclass
class TrainingState:
    """Where a training stands: what its tensors do not say."""

    curve: list[Epoch] = field(default_factory=list)
    batches: int = 0  # of the present epoch, done
    nats: float = 0.0  # of the present epoch, summed
    words: int = 0  # that these are of
    updates: int = 0
    learning_rate: float = 0.0  # of the last update
    halvings: int = 0
    skipped: int = 0  # updates left out because loss or gradient was not finite
    in_a_row: int = 0  # of these, the last ones together


@dataclass(frozen=True)
class StateTensors:
    """Everything else; what a training has no use for has no elements."""

    weights: Tensor  # (parameters,)
    first: Tensor  # (parameters,), Adam's mean of the gradient
    second: Tensor  # (parameters,), and of its square
    best: Tensor  # (parameters,), the weights of the best epoch
    dropout: Tensor  # (shares, bytes), the states of the generators

    def copy_from(self, other: Self) -> None:
        """Copies the values of other into these tensors, wherever each lies."""
        for name, tensor in vars(self).items():
            tensor.copy_(vars(other)[name])


def save(folder: Path, state: TrainingState, tensors: StateTensors) -> None:
    """Writes the state under a name that holds its place and its checksum, and drops those before the last but one.

    That one is waited for until it is on the disk: by then it mostly is, while the new one would hold up the training.
    So a power cut may tear the new one, as its checksum will tell, and then the other is whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".partial-{os.getpid()}"
    written = {name: tensor.detach().cpu() for name, tensor in vars(tensors).items()}
    written[RECORD] = torch.frombuffer(bytearray(json.dumps(asdict(state)).encode()), dtype=torch.uint8)
    try:
        save_file(written, partial)
        place = f"{len(state.curve):06d}-{state.batches:09d}"
        partial.replace(folder / f"state-{place}-{_digest(partial)}.safetensors")
    finally:
        partial.unlink(missing_ok=True)
    *older, _ = _found(folder)
    for last in older[-1:]:
        with last.open("rb") as file:
            os.fsync(file.fileno())
    for old in older[:-1]:
        old.unlink(missing_ok=True)


def latest(folder: Path) -> tuple[TrainingState, StateTensors] | None:
    """The newest whole state; None where there is none. A damaged one is dropped, and said to be."""
    for path in reversed(_found(folder)):
        try:
            if path.stem.endswith(_digest(path)):
                return _read(path)
        except FileNotFoundError:
            continue
        except (SafetensorError, OSError):
            pass
        print(f"{path}: this saved state is damaged and was dropped; an older one is used, or none.", file=sys.stderr)
        path.unlink(missing_ok=True)
    return None


def _read(path: Path) -> tuple[TrainingState, StateTensors]:
    found = load_file(path)
    record: dict[str, Any] = json.loads(found.pop(RECORD).numpy().tobytes())
    record["curve"] = [Epoch(*line) for line in record["curve"]]
    return TrainingState(**record), StateTensors(**found)


def _found(folder: Path) -> list[Path]:
    """The states of a folder, the newest last."""
    return sorted(folder.glob("state-*.safetensors"))


def _digest(path: Path) -> str:
    return fingerprint.file_sha256(path)[:16]


class CheckpointSaver:
    """When the state is saved: every so many seconds, and at epochs' ends where that costs next to nothing."""

    def __init__(self, folder: Path | None, every: float) -> None:
        self.folder, self.every, self.cost, self.last, self.warned = folder, every, 0.0, time.monotonic(), False

    def due(self, *, epoch_ends: bool = False) -> bool:
        if self.folder is None:
            return False
        waited = time.monotonic() - self.last
        return waited >= (min(self.every, self.cost / CHEAP) if epoch_ends else self.every)

    def save(self, state: TrainingState, tensors: StateTensors) -> None:
        """A state that cannot be written, for a full disk say, is told once and does not end the training."""
        if self.folder is None:
            return
        began = time.monotonic()
        try:
            save(self.folder, state, tensors)
        except (OSError, SafetensorError) as error:
            if not self.warned:
                print(f"{self.folder}: the state could not be saved ({error}); training goes on.", file=sys.stderr)
            self.warned = True
        self.last = time.monotonic()
        self.cost = self.last - began
