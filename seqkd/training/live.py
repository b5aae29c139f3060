"""What a running training tells: loss, dev perplexity, learning rate and speed, in the files that DVCLive writes.

For each metric plots/metrics/NAME.tsv has a line a step; metrics.json has the last values. `dvc plots`, DVC's view in
VS Code and `seqkd watch` read these. They lie beside a stage's outs, because DVC removes outs when the stage begins.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from seqkd.utils import atomic

INTERVAL = 1.0  # seconds between two lines
METRICS = Path("plots", "metrics")
SUMMARY = "metrics.json"
Series = list[tuple[int, float]]  # step and value


class LiveLog:
    """Writes what a training tells. A full disk ends the log, not the training."""

    def __init__(self, folder: Path, *, step: int) -> None:
        """Begin anew at step 0; in a training that resumes, keep what it told up to its step."""
        self.folder = folder
        self.summary: dict[str, dict[str, float]] = {}
        self.last_time, self.last_tokens, self.failed = time.monotonic(), 0, False
        self._guarded(self._begin, step)

    def update(self, step: int, *, tokens: int, values: Mapping[str, float]) -> None:
        """Add a line to each metric and to the tokens per second, unless the last line is younger than INTERVAL.

        tokens: target tokens since the epoch began.
        """
        now = time.monotonic()
        if now - self.last_time < INTERVAL:
            return
        if tokens > self.last_tokens:
            values = {**values, "train/tokens_per_second": (tokens - self.last_tokens) / (now - self.last_time)}
        self.last_time, self.last_tokens = now, tokens
        self.add(step, values)

    def end_epoch(self, step: int, *, dev_perplexity: float) -> None:
        """Add the dev perplexity."""
        self.last_tokens = 0
        self.add(step, {"dev/perplexity": dev_perplexity})

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line to each metric."""
        self._guarded(self._write, step, values)

    def _guarded(self, write: Callable[..., None], *arguments: object) -> None:
        if self.failed:
            return
        try:
            write(*arguments)
        except OSError as error:
            self.failed = True
            print(f"{self.folder}: no longer written ({error}); training goes on.", file=sys.stderr)

    def _begin(self, step: int) -> None:
        before = read(self.folder)
        for name in before:
            (self.folder / METRICS / f"{name}.tsv").unlink()
        kept = [(at, name, value) for name, series in before.items() for at, value in series if at <= step and step]
        for at, name, value in sorted(kept):
            self._write(at, {name: value})

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            group, _, metric = name.partition("/")
            self.summary.setdefault(group, {})[metric] = value
            path = self.folder / METRICS / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                head = "" if file.tell() else f"step\t{metric}\n"
                file.write(f"{head}{step}\t{value:.6g}\n")
        with atomic.open_text(self.folder / SUMMARY) as file:
            json.dump({"step": step, **self.summary}, file, indent=2)


def read(folder: Path) -> dict[str, Series]:
    """Return every metric of a training by name, such as train/loss; a line that is still being written is left out."""
    root = folder / METRICS
    return {
        path.relative_to(root).with_suffix("").as_posix(): list(_lines(path)) for path in sorted(root.rglob("*.tsv"))
    }


def _lines(path: Path) -> Iterator[tuple[int, float]]:
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[1:-1]:
        step, _, value = line.partition("\t")
        try:
            yield int(step), float(value)
        except ValueError:
            continue
