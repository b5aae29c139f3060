"""The whole pipeline on a tiny corpus, by DVC itself, in a copy of the project with its own Git history."""

import csv
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from dvc_file import instances

from benchmarks import kill, tiny
from benchmarks.kill import Strike
from benchmarks.local_cluster import Local
from benchmarks.tiny import Project
from seqkd.config import load
from seqkd.utils import remote_command

pytestmark = [pytest.mark.slow, pytest.mark.dvc]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The copy after its first `dvc repro`."""
    made = tiny.copy(tmp_path_factory.mktemp("repro") / "project")
    made.run("dvc", "repro")
    made.commit()
    return made


def models(project: Project) -> list[str]:
    params = load.params(project.folder / "params.yaml")
    return [*params.models, *(f"prune-{ratio}" for ratio in params.prune.ratios)]


def test_repro_gives_every_row_a_model_scores_and_a_place_in_the_report(project: Project) -> None:
    reports = project.folder / "reports"
    metrics = json.loads((reports / "metrics.json").read_text())
    assert set(metrics) == {*models(project), "(best student)"}
    for name in models(project):
        assert (project.folder / "models" / name / "weights.safetensors").stat().st_size > 0
        assert json.loads((reports / "scores" / f"{name}.json").read_text())["model"] == name
    for table in ("table1", "table2", "table3", "ladder", "faults"):
        assert (reports / f"{table}.csv").read_text().count("\n") > 2
        assert (reports / f"{table}.md").read_text().startswith("|")
    assert "baseline" in project.run("seqkd", "show", "--reports", "reports")


def test_repro_a_second_time_has_nothing_to_do(project: Project) -> None:
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


def test_kill_rounds_strike_each_kind_of_stage_once_in_the_order_of_a_run() -> None:
    lasted = {"train@a": 4.0, "evaluate@a": 1.0, "train@b": 2.0, "evaluate-pruned@c": 1.0, "report": 3.0}
    found = kill.rounds(lasted, 7, seed=1)
    assert [len(each) for each in found] == [3, 3, 1]
    for each in found:
        order = [[*lasted].index(strike.stage) for strike in each]
        assert order == sorted(order)
        assert len({strike.stage[:5] for strike in each}) == len(each)
        assert all(strike.after <= lasted[strike.stage] for strike in each)


def test_repro_gives_the_same_bits_whatever_the_number_of_processes_and_kills(project: Project) -> None:
    """Everything anew with two processes instead of one, killed on the way, its state saved after every update."""
    before = project.lock
    project.machine(processes=2, checkpoint_interval=0.0)
    kill.forget(project)
    assert len(kill.disturbed(project, STRIKES)) == len(STRIKES) + 1
    assert project.lock == before
    project.machine(processes=1)


def test_a_training_that_torchrun_starts_on_two_ranks_has_the_bits_of_one_process(
    project: Project, request: pytest.FixtureRequest
) -> None:
    before, torchrun = project.lock, f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2"
    request.addfinalizer(lambda: project.machine(processes=1))
    again = "dvc", "repro", "--single-item", "--force", "finetune@whole-near"
    project.machine(processes=1, torchrun=torchrun)
    assert project.run(*again).count("whole-near: matrix products") == 1  # rank 0 alone tells
    assert project.lock == before


def test_a_launcher_of_trainings_that_cannot_be_started_or_fails_is_named(
    project: Project, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(lambda: project.machine(processes=1))
    train = "seqkd", "train", "x", "--role=student", *(f"--{name}=x" for name in ("text", "corpus", "curve", "out"))
    for launcher, fault in {
        "no-such-program": "'no-such-program' cannot be started",
        f"{sys.executable} -m torch.distributed.run --no-such-option": "a rank ended with an error",
    }.items():
        project.machine(processes=1, torchrun=launcher)
        with pytest.raises(AssertionError, match=f"seqkd train: machine.yaml, torchrun: {fault}"):
            project.run(*train, "--vocabulary=x")


def descendants(pid: int) -> list[psutil.Process]:
    return list(psutil.Process(pid).children(recursive=True))


def test_grid_gives_the_same_bits_as_repro_and_goes_on_after_a_killed_stage(project: Project) -> None:
    """Everything anew, two stages at once; the first training of the teacher is killed with all its processes."""
    before, grid = project.lock, (sys.executable, "-m", "seqkd", "grid", "--jobs", "2")
    kill.forget(project)
    running, victim = project.start(*grid), "train@teacher"
    while not (struck := [each for each in descendants(running.pid) if kill.stage(each) == victim]):
        assert running.poll() is None, running.communicate()[0]
        time.sleep(kill.LOOK)
    struck[0].kill()
    told = running.communicate()[0]
    assert running.returncode == 1
    assert re.search(
        rf"^seqkd grid: {victim} failed: .*\. \d+ stages wait for that; \.dvc/tmp/grid has all ", told, re.MULTILINE
    )
    assert (project.folder / "models/baseline/weights.safetensors").exists()  # it does not wait for the teacher
    assert "train@baseline" not in project.run(*grid)
    assert project.lock == before
    assert project.run(*grid).startswith("0 of ")


def test_training_on_a_worker_gives_the_same_bits(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="needs the extra cluster")
    command = instances(project.folder)["train@baseline"]["cmd"].split()
    for option, path in (("--out", tmp_path / "again"), ("--curve", tmp_path / "again.csv")):
        command[command.index(option) + 1] = str(path)
    local = Local(tmp_path)
    with local.stack:
        local.start_trainer()
        project.machine(processes=1, cluster=local.address)
        monkeypatch.setitem(project.environment, remote_command.ELSEWHERE, "1")
        told = project.run(*command)
    project.machine(processes=1)
    assert re.search(r"^on \S+:$", told, re.MULTILINE)
    weights = [folder / "weights.safetensors" for folder in (tmp_path / "again", project.folder / "models/baseline")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.fixture(params=["a folder", "a bucket"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of a DVC remote: a folder, or a bucket on an S3 server of this process."""
    if request.param == "a folder":
        yield {"url": str(tmp_path / "remote")}
        return
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    pytest.importorskip("dvc_s3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"access_key_id": "someone", "secret_access_key": "secret"}
    named = {f"aws_{name}": value for name, value in keys.items()}
    boto3.client("s3", endpoint_url=address, region_name="us-east-1", **named).create_bucket(Bucket="results")
    yield {"url": "s3://results/seqkd", "endpointurl": address, **keys}
    server.stop()


def contents(project: Project) -> dict[str, bytes]:
    """What DVC keeps of a project, by its paths; a model at least."""
    folder = project.folder
    files = [file for name in ("data", "models") for file in (folder / name).rglob("*") if file.is_file()]
    found = {str(file.relative_to(folder)): file.read_bytes() for file in files}
    assert "models/whole-near/weights.safetensors" in found
    return found


def test_push_and_pull_bring_every_artefact_to_another_clone(
    project: Project, remote: dict[str, str], tmp_path: Path
) -> None:
    clone = Project(tmp_path / "clone")
    project.run("git", "clone", "-q", ".", str(clone.folder))
    for each in (project, clone):  # in .dvc/config.local, which git ignores
        each.run("dvc", "remote", "add", "--local", "--force", "-d", "store", remote["url"])
        for name, value in remote.items():
            each.run("dvc", "remote", "modify", "--local", "store", name, value)
    project.run("dvc", "push")
    clone.run("dvc", "pull")
    (project.folder / ".dvc/config.local").unlink()
    assert contents(clone) == contents(project)
    assert clone.stale() == set()
    assert "Running stage" not in clone.run("dvc", "repro")
    assert clone.lock == project.lock


LOCK, RWLOCK = "dvc.lock", ".dvc/tmp/rwlock"


@pytest.mark.parametrize(
    ("torn", "share", "ending"),
    [(LOCK, 0.3, b""), (LOCK, 0.6, b""), (LOCK, 0.6, b"\n: ["), (RWLOCK, 0.3, b""), (RWLOCK, 0.6, b"")],
)
def test_dvc_files_torn_by_a_kill_are_repaired_as_the_readme_says(
    project: Project, torn: str, share: float, ending: bytes
) -> None:
    before, path = project.lock, project.folder / torn
    content = path.read_bytes() if torn == LOCK else b'{"write": {"models/teacher": {"pid": 1'
    path.write_bytes(content[: int(len(content) * share)] + ending)
    mended = kill.finish(project)
    assert mended or (torn == LOCK and not ending)  # the beginning of a lock may be a shorter one that can be read
    assert project.lock == before


TRAININGS = ("train@", "distill@", "finetune@", "prune@")
HARMLESS = [  # for a training
    "reporting/charts.py",
    "reporting/tables.py",
    "corpora/wheels.py",
    "selection/select.py",
    "evaluation/metrics.py",
    "utils/pool.py",
]


@contextmanager
def edited(project: Project, *names: str) -> Iterator[None]:
    """Add a line to modules of seqkd while the block runs."""
    before = {path: path.read_text() for path in (project.folder / "seqkd" / name for name in names)}
    for path, text in before.items():
        path.write_text(f"{text}\n# another look\n")
    try:
        yield
    finally:
        for path, text in before.items():
            path.write_text(text)


def test_edit_of_a_plot_reruns_the_report_alone(project: Project) -> None:
    with edited(project, "reporting/charts.py"):
        assert project.stale() == {"report", "speed"}


def test_edit_of_what_no_training_uses_leaves_every_training_as_it_is(project: Project) -> None:
    with edited(project, *HARMLESS):
        assert project.stale()
        assert not [stage for stage in project.stale() if stage.startswith(TRAININGS)]


def test_edit_of_the_search_makes_no_training_stale_but_those_that_may_read_the_students_own_text(
    project: Project,
) -> None:
    with edited(project, "decoding/beam_search.py"):
        stale = {stage for stage in project.stale() if stage.startswith(TRAININGS)}
    assert stale
    assert all(stage.startswith(("distill@", "finetune@")) for stage in stale)


def test_edit_of_the_optimizer_makes_every_training_stale(project: Project) -> None:
    with edited(project, "training/optimizer.py"):
        stale = project.stale()
    assert {stage for stage in instances(project.folder) if stage.startswith(TRAININGS)} <= stale


def test_compiled_files_beside_the_code_leave_the_status_clean(project: Project) -> None:
    """Python and numba write them into the packages that stages depend on."""
    for folder in ("training", "ops/cpu"):
        cache = project.folder / "seqkd" / folder / "__pycache__"
        cache.mkdir(exist_ok=True)
        (cache / "touched.cpython-311.pyc").write_bytes(b"anything")
        (cache.parent / "loose.pyc").write_bytes(b"anything")
    assert project.stale() == set()


def test_experiment_with_another_size_trains_and_takes_nothing_from_an_earlier_run(project: Project) -> None:
    command = ("dvc", "exp", "run", "--temp", "--name", "wider", "-S", "student.size=1x12", "train@baseline")
    assert "Running stage 'train@baseline'" in project.run(*command)


def test_experiment_in_a_temporary_clone_reruns_what_its_setting_touches_and_is_listed_by_row(project: Project) -> None:
    """It runs in a clone, with the clone's own code and the project's cache."""
    told = project.run("dvc", "exp", "run", "--temp", "--name", "cooler", "-S", "distill.words.alpha=0.25")
    ran = set(re.findall(r"Running stage '([^']+)'", told))
    assert ran == {"validate", "distill@words", "evaluate-distilled@words", "evidence", "report", "speed"}
    listed = csv.DictReader(project.run("dvc", "exp", "show", "--csv").splitlines())
    shown = {line["Experiment"]: line for line in listed}
    assert shown["cooler"]["distill.words.alpha"] == "0.25"
    assert {f"{name}.bleu_1" for name in models(project)} <= set(shown["cooler"])
    assert project.stale() == set()
