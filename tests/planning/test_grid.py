"""Several stages at once: the rule of the order, the replay of measured times, what a failed stage holds up."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from source_tree import ROOT

from seqkd.config import load
from seqkd.planning import grid, stage_graph
from seqkd.utils.errors import InputError

DOT = """strict digraph {
"text";
"train@a";
"train@b";
"distill@a";
"report";
"text" -> "train@a";
"text" -> "train@b";
"train@a" -> "distill@a";
"train@b" -> "report";
"distill@a" -> "report";
}
"""
GRAPH = stage_graph.read_dot(DOT)
SECONDS = {"text": 1.0, "train@a": 10.0, "train@b": 8.0, "distill@a": 5.0, "report": 2.0}


def test_graph_is_read_from_what_dvc_prints() -> None:
    expected: stage_graph.Graph = {
        "text": set(),
        "train@a": {"text"},
        "train@b": {"text"},
        "distill@a": {"train@a"},
        "report": {"train@b", "distill@a"},
    }
    assert expected == GRAPH
    assert stage_graph.downstream(GRAPH, ["train@a"]) == {"train@a", "distill@a", "report"}


def test_longest_chain_goes_first() -> None:
    order = stage_graph.chains(GRAPH, {"train@b": 100.0})
    assert stage_graph.ready(GRAPH, {"text"}, begun={"text"}, order=order) == ["train@b", "train@a"]
    order = stage_graph.chains(GRAPH, {})
    assert stage_graph.ready(GRAPH, {"text"}, begun={"text"}, order=order) == ["train@a", "train@b"]
    assert stage_graph.ready(GRAPH, {"text"}, begun={"text", "train@a"}, order=order) == ["train@b"]


@pytest.mark.parametrize(("machines", "seconds"), [(1, 26.0), (2, 18.0), (8, 18.0)])
def test_replay_adds_up_on_one_machine_and_ends_at_the_longest_chain(machines: int, seconds: float) -> None:
    assert stage_graph.replay(GRAPH, SECONDS, machines) == seconds


def test_replay_waits_for_a_machine() -> None:
    wide = {"a": set[str](), "b": set[str](), "c": set[str](), "d": set[str]()}
    assert stage_graph.replay(wide, {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, 2) == 5.0


def test_replay_refuses_a_stage_without_a_time_and_a_table_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^there is no time of the stage report; give one for each stage that"):
        stage_graph.replay(GRAPH, {name: 1.0 for name in GRAPH if name != "report"}, 2)
    table = tmp_path / "seconds.tsv"
    grid.write_seconds(table, SECONDS)
    assert grid.read_seconds(table) == SECONDS
    for wrong in ("train@a 3", "train@a\tthree", "train@a\t-3", "train@a\tnan"):
        table.write_text(f"text\t1\n{wrong}\n")
        with pytest.raises(InputError, match=r"seconds\.tsv, line 2: write a stage, a tab and its seconds, not 'train"):
            grid.read_seconds(table)


def test_stage_has_its_share_of_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "machine.yaml"
    file.write_text("processes: 6\n")
    monkeypatch.setenv(load.PROCESSES, "2")
    assert load.machine(file).processes == 2
    monkeypatch.setenv(load.PROCESSES, "9")
    assert load.machine(file).processes == 6


STAGE = "  {}:\n    cmd: x\n"


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """dvc.lock with stages in an order, where DVC itself would run a, b, c, d."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grid, "run_dvc", lambda *_: "".join(f"Running stage '{name}':\n> x\n" for name in "abcd"))

    def write(names: str) -> Path:
        grid.LOCK.write_text("schema: '2.0'\nstages:\n" + "".join(map(STAGE.format, names)))
        return grid.LOCK

    return write


def test_new_stages_stand_in_the_lock_in_dvcs_order_behind_the_old_ones(lock: Callable[[str], Path]) -> None:
    path = lock("bdca")
    grid.put_in_order(["b"])
    assert path.read_text() == "schema: '2.0'\nstages:\n" + "".join(map(STAGE.format, "bacd"))
    grid.put_in_order("bacd")
    assert path.read_text() == "schema: '2.0'\nstages:\n" + "".join(map(STAGE.format, "bacd"))


PARENT = """
import subprocess, time
from seqkd.planning import grid
print(subprocess.Popen(["sleep", "600"], preexec_fn=grid._end_with_parent).pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a killed grid leaves its stages at work")
def test_stages_end_with_a_grid_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone or child.status() == psutil.STATUS_ZOMBIE


def test_order_of_the_lock_is_that_of_one_run_though_a_first_one_failed(lock: Callable[[str], Path]) -> None:
    path = lock("b")
    assert grid.recorded_before() == ["b"]
    lock("bd")
    assert grid.recorded_before() == ["b"]
    lock("bdca")
    grid.put_in_order(grid.recorded_before())
    assert path.read_text() == "schema: '2.0'\nstages:\n" + "".join(map(STAGE.format, "bacd"))


def test_reason_of_a_failure_is_the_sentence_of_the_stage() -> None:
    told = "Running stage 'a':\nseqkd train: no disk.\nERROR: failed to reproduce 'a'\n"
    assert grid._reason(told) == "seqkd train: no disk."
    assert grid._reason("ERROR: 'x' is busy\n(PID 3)\n") == "'x' is busy."
