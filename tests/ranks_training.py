"""A training that the tests start by torchrun: python -m torch.distributed.run ... tests/ranks_training.py FOLDER."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import trainings

from seqkd.config.machine import Machine
from seqkd.training import trainer
from seqkd.utils import torchrun
from seqkd.utils.errors import InputError, StoppedError


def main() -> int:
    """Train as FOLDER/job.json says; rank 0 writes the checksum of the weights and the curve to FOLDER/result.json."""
    folder = Path(sys.argv[1])
    wanted: dict[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    network = trainings.network()
    settings = trainings.settings(shards=4, batch_size=32, **wanted.get("settings", {}))
    job = trainings.job(settings=settings, resume=folder / "resume", seed=wanted.get("seed", 5))
    try:
        curve = trainer.train(network, job, Machine(processes=wanted.get("processes", 1), device="cpu"))
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    except StoppedError as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signal
    if torchrun.is_main():
        digest = hashlib.sha256(trainings.flat(network).numpy().tobytes()).hexdigest()
        (folder / "result.json").write_text(json.dumps([digest, curve]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
