"""The whole pipeline on a tiny corpus, by DVC itself, in a copy of the project with its own Git history."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqkd import config

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LEFT_OUT = {"tests", "benchmarks", "reports", "dvc.lock"}  # what the copy needs none of, or makes itself

GRAMMAR = {"kind": "grammar", "pairs": 120, "dev": 12, "test": 12}
EPOCH = {"method": "adam", "rate": 0.01, "schedule": "constant", "epochs": 1, "batch": 16, "warmup": 0}
TINY: dict[str, Any] = {  # with methods that the project does not know: a method is a row
    "data": {"corpus": "corpora/tiny.yaml", "source": "en", "target": "de", "max_tokens": 60},
    "vocab": {"size": 160},
    "teacher": {"size": "1x16", "dropout": 0.1},
    "student": {"size": "1x8", "dropout": 0.1},
    "optim": dict.fromkeys(("teacher", "student", "tune", "retrain"), EPOCH),
    "decode": {"k5": {"beam": 2}, "k35": {"beam": 3}},
    "distill": {"words": {"text": "gold", "alpha": 0.5}, "whole": {"text": "seq_kd", "alpha": 0.0}},
    "finetune": {
        "whole-near": {"text": "seq_inter", "init": "whole", "alpha": 0.25},
        "teacher-near": {"text": "seq_inter", "init": "teacher", "alpha": 0.0},
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

    def run(self, *command: str) -> str:
        """What the command printed; the test fails with all of it where the command does."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}"
        return done.stdout

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.folder / "params.yaml").read_text(encoding="utf-8"))
        return found

    def write(self, values: dict[str, Any]) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")

    def commit(self) -> None:
        self.run("git", "add", ".")
        self.run("git", "commit", "-qm", "so far")

    @property
    def lock(self) -> bytes:
        return (self.folder / "dvc.lock").read_bytes()

    def stale(self) -> set[str]:
        """The stages that `dvc repro` would run for what has changed itself, not for what these would change."""
        return set(json.loads(self.run("dvc", "status", "--json")))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The copy after its first `dvc repro`."""
    folder = tmp_path_factory.mktemp("repro") / "project"
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if name.partition("/")[0] not in LEFT_OUT and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    made = Project(folder)
    made.write(made.read() | TINY)
    (folder / "corpora/tiny.yaml").write_text(yaml.safe_dump(GRAMMAR))
    (folder / "machine.yaml").write_text("workers: 1\ndevice: cpu\n")
    made.run("git", "init", "-q")
    made.commit()
    made.run("dvc", "repro")
    made.commit()
    return made


def models(project: Project) -> list[str]:
    params = config.params(project.folder / "params.yaml")
    return [*params.models, *(f"prune-{ratio}" for ratio in params.prune.ratios)]


def test_every_row_has_a_model_scores_and_a_place_in_the_report(project: Project) -> None:
    reports = project.folder / "reports"
    metrics = json.loads((reports / "metrics.json").read_text())
    assert set(metrics) == set(models(project))
    for name in models(project):
        assert (project.folder / "models" / name / "weights.safetensors").stat().st_size > 0
        assert json.loads((reports / "scores" / f"{name}.json").read_text())["model"] == name
    for table in ("table1", "table2", "table3"):
        assert (reports / f"{table}.csv").read_text().count("\n") > 2
        assert (reports / f"{table}.md").read_text().startswith("|")
    assert "baseline" in project.run("seqkd", "show", "--reports", "reports")


def test_a_second_repro_has_nothing_to_do(project: Project) -> None:
    before = project.lock
    told = project.run("dvc", "repro")
    assert "Running stage" not in told
    assert project.lock == before
    assert project.stale() == set()


def test_one_seed_gives_one_result(project: Project) -> None:
    before = project.lock
    project.run("dvc", "repro", "--force")
    assert project.lock == before


def test_an_edit_of_a_plot_trains_nothing(project: Project) -> None:
    plots = project.folder / "seqkd" / "plots.py"
    before = plots.read_text()
    plots.write_text(before + "\n# another look\n")
    assert project.stale() == {"report", "speed"}
    plots.write_text(before)


def test_a_student_of_another_size_is_trained_and_not_taken_from_an_earlier_run(project: Project) -> None:
    command = ("dvc", "exp", "run", "--temp", "--name", "wider", "-S", "student.size=1x12", "train@baseline")
    assert "Running stage 'train@baseline'" in project.run(*command)


def test_a_temporary_experiment_reruns_what_its_setting_touches_and_is_listed_by_row(project: Project) -> None:
    """It runs in a clone, with the clone's own code and the project's cache."""
    told = project.run("dvc", "exp", "run", "--temp", "--name", "cooler", "-S", "distill.words.alpha=0.25")
    ran = set(re.findall(r"Running stage '([^']+)'", told))
    assert ran == {"distill@words", "evaluate-distilled@words", "report", "speed"}
    listed = csv.DictReader(project.run("dvc", "exp", "show", "--csv").splitlines())
    shown = {line["Experiment"]: line for line in listed}
    assert shown["cooler"]["distill.words.alpha"] == "0.25"
    assert {f"{name}.bleu_1" for name in models(project)} <= set(shown["cooler"])
    assert project.stale() == set()
