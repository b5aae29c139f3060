"""The whole pipeline at its smallest, by DVC itself, in a copy of the project with its own Git history."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

from seqkd.config import yaml_file

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LEFT_OUT = {"tests", "benchmarks", "reports", "dvc.lock"}  # what the copy needs none of, or makes itself

GRAMMAR: dict[str, Any] = {"kind": "grammar", "pairs": 120, "dev": 12, "test": 12}
EPOCH = {
    "optimizer": "adam",
    "learning_rate": 0.01,
    "schedule": "constant",
    "epochs": 1,
    "batch_size": 16,
    "warmup_steps": 0,
}
TINY: dict[str, Any] = {  # with methods that the project does not know: a method is a row
    "data": {
        "corpus": "corpora/tiny.yaml",
        "source": "en",
        "target": "de",
        "max_length": 60,
        "tidy": False,
        "monolingual": "corpora/none.yaml",
        "max_pairs": 0,
        "seed": 17,
    },
    "vocab": {"size": 160, "byte_fallback": False},
    "teacher": {"size": "1x16", "dropout": 0.1, "members": 2},
    "student": {"size": "1x8", "dropout": 0.1},
    "optim": dict.fromkeys(("teacher", "student", "finetune", "retrain"), EPOCH),
    "decode": {"k5": {"beam": 2}, "k16": {"beam": 3}},
    "mix": {"both": {"reference": 1, "seq_inter": 2}},
    "distill": {
        "words": {"train_text": "reference", "alpha": 0.5},
        "whole": {"train_text": "seq_kd", "alpha": 0.0},
        "mixed": {"train_text": "both", "alpha": 0.0, "student_size": "1x12", "epochs": 2},
    },
    "finetune": {
        "whole-near": {"train_text": "seq_inter", "init_from": "whole", "alpha": 0.25},
        "whole-own": {"train_text": "own", "init_from": "whole", "alpha": 1.0},
        "teacher-near": {"train_text": "seq_inter", "init_from": "teacher", "alpha": 0.0},
    },
    "prune": {"model": "whole-near", "ratios": [0.5], "retrain": "seq_kd", "finetune": "seq_inter"},
    "evaluate": {"beams": [1, 2]},
    "speed": {"models": ["teacher", "baseline"], "sentences": 4, "rounds": 1},
}


class Project:
    """The copy, and its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        named = {f"GIT_{who}_{what}": "someone" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.environment = {
            **os.environ,
            **named,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(folder.parent / "site"),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *command: str) -> subprocess.Popen[str]:
        """The command under way, in a session of its own, so that it can be killed with all that it started."""
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, *command: str) -> str:
        """What the command printed; AssertionError with all of it where the command fails."""
        running = self.start(*command)
        told = running.communicate()[0]
        assert running.returncode == 0, f"{' '.join(command)}:\n{told}"
        return told

    def read(self) -> dict[str, Any]:
        return cast(dict[str, Any], yaml_file.read(self.folder / "params.yaml"))

    def write(self, values: dict[str, Any]) -> None:
        (self.folder / "params.yaml").write_text(json.dumps(values, indent=2), encoding="utf-8")

    def machine(self, **values: object) -> None:
        """Describes the machine that the copy believes to be on."""
        (self.folder / "machine.yaml").write_text(json.dumps({"device": "cpu", **values}))

    def commit(self) -> None:
        self.run("git", "add", ".")
        self.run("git", "commit", "-qm", "so far")

    @property
    def lock(self) -> bytes:
        return (self.folder / "dvc.lock").read_bytes()

    def stale(self) -> set[str]:
        """The stages that `dvc repro` would run for what has changed itself, not for what these would change."""
        return set(json.loads(self.run("dvc", "status", "--json")))


def copy(folder: Path, *, pairs: int = GRAMMAR["pairs"], epochs: int = 1) -> Project:
    """The project in a new folder with the tiny settings, committed, not yet run."""
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if name.partition("/")[0] not in LEFT_OUT and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    made = Project(folder)
    optim = dict.fromkeys(TINY["optim"], EPOCH | {"epochs": epochs})
    made.write(made.read() | TINY | {"optim": optim})
    (folder / "corpora/tiny.yaml").write_text(json.dumps(GRAMMAR | {"pairs": pairs}))
    made.machine(processes=1)
    made.run("git", "init", "-q")
    made.commit()
    return made
