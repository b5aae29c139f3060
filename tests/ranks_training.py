"""A training that tests start with torchrun's variables, once for each rank: python tests/ranks_training.py FOLDER."""

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import trainings

from seqkd.config.machine import Machine
from seqkd.decoding import beam_search
from seqkd.training import ranks, trainer, training_state
from seqkd.training.training_state import StateTensors, TrainingState
from seqkd.utils import torchrun
from seqkd.utils.errors import InputError, StoppedError


def train(folder: Path, wanted: dict[str, Any]) -> None:
    """Train as wanted; rank 0 writes the checksum of the weights and the curve to FOLDER/result.json."""
    network, settings = (
        trainings.network(),
        trainings.settings(shards=4, **{"batch_size": 32, **wanted.get("settings", {})}),
    )
    own = {"alpha": 1.0, "teacher": trainings.network(2), "search": beam_search.greedy} if wanted.get("own") else {}
    job = trainings.job(settings=settings, key=wanted.get("key", ""), resume=folder / "resume", **own)
    if wanted.get("slow_save"):
        slow_down_saving(folder / "slow", mark=folder / "saved")
    processes, mixed = wanted.get("processes", 1), wanted.get("mixed", False)
    machine = Machine(processes=processes, mixed=mixed, device="cpu", checkpoint_interval=0.5)
    curve = trainer.train(network, job, machine)
    if torchrun.is_main():
        digest = hashlib.sha256(trainings.flat(network).numpy().tobytes()).hexdigest()
        (folder / "result.json").write_text(json.dumps([digest, curve]), encoding="utf-8")


def slow_down_saving(wanted: Path, *, mark: Path) -> None:
    """Once a file is there, let every state be saved 4 seconds late, and leave a mark when it is."""
    save = training_state.save

    def late(folder: Path, state: TrainingState, tensors: StateTensors) -> None:
        slow = wanted.exists()
        if slow:
            time.sleep(4)
        save(folder, state, tensors)
        if slow:
            mark.touch()

    training_state.save = late


def main() -> int:
    """Train as FOLDER/job.json says, with what the second argument, JSON, changes; return as `seqkd` does."""
    folder = Path(sys.argv[1])
    wanted = json.loads((folder / "job.json").read_text(encoding="utf-8")) | json.loads(sys.argv[2])
    ranks.START_SECONDS = wanted.get("start_seconds", ranks.START_SECONDS)
    try:
        train(folder, wanted)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    except StoppedError as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signal
    finally:
        torchrun.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
