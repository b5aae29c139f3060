"""The whole pipeline on a tiny corpus, by DVC itself, in a copy of the project with its own Git history."""

import csv
import json
import re

import pytest

from benchmarks import kill, tiny
from benchmarks.kill import Strike
from benchmarks.tiny import Project
from seqkd.config import schema


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The copy after its first `dvc repro`."""
    made = tiny.copy(tmp_path_factory.mktemp("repro") / "project")
    made.run("dvc", "repro")
    made.commit()
    return made


def models(project: Project) -> list[str]:
    params = schema.load_params(project.folder / "params.yaml")
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


STRIKES = [  # in the order of a run
    Strike("train@teacher", 1.5, "worker"),
    Strike("select@seq_inter", 0.5, "stage"),
    Strike("finetune@teacher-near", 1.5, "dvc"),
    Strike("evaluate-pruned@0.5", 1.0, "group"),
]


def test_a_round_strikes_each_kind_of_stage_once_in_the_order_of_a_run() -> None:
    lasted = {"train@a": 4.0, "evaluate@a": 1.0, "train@b": 2.0, "evaluate-pruned@c": 1.0, "report": 3.0}
    found = kill.rounds(lasted, 7, seed=1)
    assert [len(each) for each in found] == [3, 3, 1]
    for each in found:
        order = [[*lasted].index(strike.stage) for strike in each]
        assert order == sorted(order)
        assert len({strike.stage[:5] for strike in each}) == len(each)
        assert all(strike.after <= lasted[strike.stage] for strike in each)


def test_one_seed_gives_one_result_whatever_the_number_of_workers_and_kills(project: Project) -> None:
    """Everything anew with two workers instead of one, killed on the way, its state saved after every update."""
    before = project.lock
    project.machine(processes=2, checkpoint_interval=0.0)
    kill.forget(project)
    assert len(kill.disturbed(project, STRIKES)) == len(STRIKES) + 1
    assert project.lock == before
    project.machine(processes=1)


LOCK, RWLOCK = "dvc.lock", ".dvc/tmp/rwlock"


@pytest.mark.parametrize(
    ("torn", "share", "ending"),
    [(LOCK, 0.3, b""), (LOCK, 0.6, b""), (LOCK, 0.6, b"\n: ["), (RWLOCK, 0.3, b""), (RWLOCK, 0.6, b"")],
)
def test_a_torn_file_of_dvcs_own_is_mended_as_the_manual_says(
    project: Project, torn: str, share: float, ending: bytes
) -> None:
    before, path = project.lock, project.folder / torn
    content = path.read_bytes() if torn == LOCK else b'{"write": {"models/teacher": {"pid": 1'
    path.write_bytes(content[: int(len(content) * share)] + ending)
    mended = kill.finish(project)
    assert mended or (torn == LOCK and not ending)  # the beginning of a lock may be a shorter one that can be read
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
    assert ran == {"validate", "distill@words", "evaluate-distilled@words", "report", "speed"}
    listed = csv.DictReader(project.run("dvc", "exp", "show", "--csv").splitlines())
    shown = {line["Experiment"]: line for line in listed}
    assert shown["cooler"]["distill.words.alpha"] == "0.25"
    assert {f"{name}.bleu_1" for name in models(project)} <= set(shown["cooler"])
    assert project.stale() == set()
