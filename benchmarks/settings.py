"""How a run of the benchmarks is set: on what, where, how long."""

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.material import Material


@dataclass(frozen=True)
class Settings:
    data: Path | None  # a folder of train.*, dev.* and test.* files; None: what the project has
    languages: tuple[str, str]
    keep: Path  # the peers' environments, trained networks, results
    core: int  # the one on which single processes run
    rounds: int
    updates: int  # of training in a round

    def material(self) -> Material:
        return Material(self.data, languages=self.languages, keep=self.keep)

    def pin(self) -> None:
        """This process, and those it starts, to one core."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {self.core})

    def unpin(self) -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
