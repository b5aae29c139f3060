"""Progress as a bar on a terminal, as log lines elsewhere; both with a rate and the time left."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

LINE_INTERVAL = 15.0  # seconds between two log lines
MIN_DURATION = 1.0  # seconds; shorter work has no last line


class Progress:
    """Progress of one piece of work: `with Progress(total, unit="pairs", label="decode k35") as bar: bar.add(12)`."""

    def __init__(self, total: int, *, unit: str, label: str, done: int = 0) -> None:
        self.total, self.unit, self.label, self.done, self.note = total, unit, label, done, ""
        self.start = self.last_line = time.monotonic()
        self.first: tuple[float, int] | None = None  # time and count after the first piece, which includes compilation
        terminal = sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=done, unit=f" {unit}", desc=label, unit_scale=True) if terminal else None

    def add(self, count: int, *, note: str = "") -> None:
        """Count more units as done; the last note stands at the end of a line."""
        self.done += count
        self.note = note or self.note
        if self.bar is not None:
            self.bar.update(count)
            if note:
                self.bar.set_postfix_str(note)
            return
        now = time.monotonic()
        if self.first is None:
            self.first, self.last_line = (now, self.done), now
        elif now - self.last_line >= LINE_INTERVAL:
            self.last_line = now
            first_time, first_count = self.first
            rate = (self.done - first_count) / (now - first_time)
            left = (self.total - self.done) / rate if rate else 0.0
            self._print(f"{self.done:,} of {self.total:,} {self.unit}, {rate:,.0f}/s, {left:.0f} s left")

    def _print(self, text: str) -> None:
        print(f"{self.label}: {text}{f', {self.note}' if self.note else ''}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        elif kind is None and (seconds := time.monotonic() - self.start) >= MIN_DURATION:
            self._print(f"{self.done:,} {self.unit} in {seconds:.0f} s")
