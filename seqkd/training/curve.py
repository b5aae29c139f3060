"""A training curve: a CSV file with one line per epoch."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from seqkd.utils import atomic
from seqkd.utils.errors import InputError

UNTRAINED = "not trained\n"
MAX_VALUE = 1e300  # a plot cannot label an axis with larger numbers


class Epoch(NamedTuple):
    epoch: int  # counted from 1
    updates: int  # so far
    learning_rate: float  # of the last update
    train_loss: float  # nats per target token, EOS included, with dropout
    dev_perplexity: float  # of the human targets


def concatenate(*curves: list[Epoch]) -> list[Epoch]:
    """Join the curves of successive trainings; epochs and updates are counted on."""
    joined: list[Epoch] = []
    for curve in curves:
        epochs, updates = (joined[-1].epoch, joined[-1].updates) if joined else (0, 0)
        joined += [line._replace(epoch=line.epoch + epochs, updates=line.updates + updates) for line in curve]
    return joined


def mean(curves: Sequence[Sequence[Epoch]]) -> list[Epoch]:
    """Return the mean of the curves of an ensemble's members, as far as the shortest goes."""
    if len(curves) == 1:
        return list(curves[0])
    joined = []
    for line in zip(*curves, strict=False):
        loss, perplexity = fmean(each.train_loss for each in line), fmean(each.dev_perplexity for each in line)
        joined.append(line[0]._replace(train_loss=loss, dev_perplexity=perplexity))
    return joined


def write(path: Path, epochs: Iterable[Epoch]) -> None:
    """Write a curve."""
    with atomic.open_text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Epoch._fields)
        writer.writerows([f"{value:.6g}" for value in line] for line in epochs)


def write_untrained(path: Path) -> None:
    """Write what stands in the place of the curve of a model that was not trained."""
    with atomic.open_text(path) as file:
        file.write(UNTRAINED)


def is_untrained(path: Path) -> bool:
    """Return whether `write_untrained` wrote the file."""
    return path.exists() and path.read_bytes() == UNTRAINED.encode()


def read(path: Path) -> list[Epoch]:
    """Read a curve that write has written. Raises InputError where the file is missing or broken."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [[row[name] for name in Epoch._fields] for row in csv.DictReader(file)]
        epochs = [Epoch(int(row[0]), int(row[1]), *map(float, row[2:])) for row in rows]
        if not epochs or not all(map(_is_plausible, epochs)):
            raise ValueError
        return epochs
    except FileNotFoundError:
        raise InputError(f"{path}: the curve of {path.stem} is missing; run dvc repro.") from None
    except (KeyError, TypeError, ValueError, OverflowError, csv.Error):
        raise InputError(f"{path}: not a curve with {', '.join(Epoch._fields)}; run dvc repro.") from None


def _is_plausible(line: Epoch) -> bool:
    """Return whether a training can have written this line, so that it can be plotted."""
    counts = all(0 <= count < 1 << 53 for count in (line.epoch, line.updates))
    sizes = abs(line.learning_rate) < MAX_VALUE and abs(line.train_loss) < MAX_VALUE
    return counts and sizes and 0 < line.dev_perplexity < MAX_VALUE
