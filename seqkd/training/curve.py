"""A training curve: one line an epoch."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from seqkd.utils import atomic
from seqkd.utils.errors import InputError

MAX_VALUE = 1e300


class Epoch(NamedTuple):
    epoch: int
    updates: int  # so far
    learning_rate: float  # of the last update
    train_loss: float  # nats per target word, EOS included, with dropout
    dev_perplexity: float  # of the human targets


def concatenate(*curves: list[Epoch]) -> list[Epoch]:
    """The curve of trainings one after the other, epochs and updates counted through."""
    whole: list[Epoch] = []
    for epochs in curves:
        done, updates = (whole[-1].epoch, whole[-1].updates) if whole else (0, 0)
        whole += [line._replace(epoch=line.epoch + done, updates=line.updates + updates) for line in epochs]
    return whole


def write(path: Path, epochs: Iterable[Epoch]) -> None:
    with atomic.open_text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Epoch._fields)
        writer.writerows([f"{value:.6g}" for value in line] for line in epochs)


def _sound(it: Epoch) -> bool:
    """Whether a training can have come to this; a plot has no room for a number of 300 digits, or a logarithm of 0."""
    counts = all(0 <= count < 1 << 53 for count in (it.epoch, it.updates))
    return (
        counts
        and abs(it.learning_rate) < MAX_VALUE
        and abs(it.train_loss) < MAX_VALUE
        and 0 < it.dev_perplexity < MAX_VALUE
    )


def read(path: Path) -> list[Epoch]:
    """The epochs that write wrote. Raises InputError where the file is missing or broken."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [[row[name] for name in Epoch._fields] for row in csv.DictReader(file)]
        epochs = [Epoch(int(row[0]), int(row[1]), *map(float, row[2:])) for row in rows]
        if not epochs or not all(map(_sound, epochs)):
            raise ValueError
        return epochs
    except FileNotFoundError:
        raise InputError(f"{path}: the curve of {path.stem} is missing; run dvc repro.") from None
    except (KeyError, TypeError, ValueError, OverflowError, csv.Error):
        raise InputError(f"{path}: not a curve with {', '.join(Epoch._fields)}; run dvc repro.") from None
