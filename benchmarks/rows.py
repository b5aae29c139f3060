"""One measured line beside its peer, and how alternating rounds become it."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    work: str
    unit: str
    ours: float
    peer: str = ""
    theirs: float = 0.0
    aim: float = 0.0  # the ratio that was hoped for; 0: none
    roofline: float = 0.0  # ours to what the machine could do at most; 0: not known
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs if self.theirs else 0.0

    def cells(self) -> list[str]:
        return [
            self.work,
            f"{_short(self.ours)} {self.unit}",
            f"{_short(self.theirs)} ({self.peer})" if self.peer else "",
            f"{self.ratio:.2f}" if self.theirs else "",
            f"{self.aim:g}" if self.aim else "",
            f"{self.roofline:.0%}" if self.roofline else "",
            self.note,
        ]


HEAD = ["work", "ours", "peer", "ratio", "aim", "of the roofline", "note"]


def table(rows: Sequence[Row]) -> str:
    """Markdown, its columns aligned."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEAD))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def alternate(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each variant's rounds, the variants by turns, so that a busy machine slows all of them alike."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds):
        for name, measure in variants.items():
            found[name].append(measure())
            print(f"round {number + 1}: {name} {_short(found[name][-1])}", flush=True)
    return {name: statistics.median(values) for name, values in found.items()}


def record(row: Row) -> dict[str, Any]:
    return asdict(row)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
