"""A progress bar on a terminal, plain log lines elsewhere; both with a rate and an estimate."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

LINE_EVERY = 15.0  # seconds between two plain lines
SHORT = 1.0  # seconds of which no line tells


class Progress:
    """with Progress(total, unit="pairs", label="decode k35") as bar: bar.add(12, note="beam 35")."""

    def __init__(self, total: int, *, unit: str, label: str, done: int = 0) -> None:
        self.total, self.unit, self.label, self.done, self.note = total, unit, label, done, ""
        self.began = self.last = time.monotonic()
        self.warm: tuple[float, int] | None = None  # when the first piece was done, for which code was compiled
        terminal = sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=done, unit=f" {unit}", desc=label, unit_scale=True) if terminal else None

    def add(self, count: int, *, note: str = "") -> None:
        self.done += count
        self.note = note or self.note
        if self.bar is not None:
            self.bar.update(count)
            if note:
                self.bar.set_postfix_str(note)
            return
        now = time.monotonic()
        if self.warm is None:
            self.warm, self.last = (now, self.done), now
        elif now - self.last >= LINE_EVERY:
            self.last = now
            self._line(now, *self.warm)

    def _line(self, now: float, since: float, first: int) -> None:
        rate = (self.done - first) / (now - since)
        left = (self.total - self.done) / rate if rate else 0.0
        text = f"{self.label}: {self.done:,} of {self.total:,} {self.unit}, {rate:,.0f}/s, {left:.0f} s left"
        print(f"{text}, {self.note}" if self.note else text, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        elif kind is None and (seconds := time.monotonic() - self.began) >= SHORT:
            text = f"{self.label}: {self.done:,} {self.unit} in {seconds:.0f} s"
            print(f"{text}, {self.note}" if self.note else text, file=sys.stderr, flush=True)
