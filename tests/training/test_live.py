"""What a running training tells, in the files that DVCLive's readers know."""

import json
from pathlib import Path

import pytest
import torch
from trainings import flat, job, network

from seqkd.config.machine import Machine
from seqkd.training import live, trainer
from seqkd.training.live import LiveLog


@pytest.fixture(autouse=True)
def _every_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "INTERVAL", 0.0)


@pytest.mark.parametrize("processes", [1, 2])
def test_live_log_of_a_training_has_its_curve_and_changes_no_bit(tmp_path: Path, processes: int) -> None:
    watched, unwatched = network(), network()
    curve = trainer.train(watched, job(live=tmp_path / "m"), Machine(processes=processes))
    assert trainer.train(unwatched, job(), Machine(processes=processes)) == curve
    assert torch.equal(flat(watched), flat(unwatched))
    told = live.read(tmp_path / "m")
    assert list(told) == ["dev/perplexity", "train/learning_rate", "train/loss", "train/tokens_per_second"]
    assert told["dev/perplexity"] == [(line.updates, float(f"{line.dev_perplexity:.6g}")) for line in curve]
    losses = dict(told["train/loss"])
    assert [losses[line.updates] for line in curve] == [float(f"{line.train_loss:.6g}") for line in curve]
    assert [step for step, _ in told["train/loss"]] == list(range(1, curve[-1].updates + 1))
    assert all(value > 0 for _, value in told["train/tokens_per_second"])


def test_live_log_has_the_layout_of_dvclive(tmp_path: Path) -> None:
    log = LiveLog(tmp_path / "m", step=0)
    log.update(3, tokens=10, values={"train/loss": 2.5})
    log.end_epoch(4, dev_perplexity=17.25)
    log.update(5, tokens=7, values={"train/loss": 1.0})
    plots = tmp_path / "m" / "plots" / "metrics"
    assert (plots / "train" / "loss.tsv").read_text() == "step\tloss\n3\t2.5\n5\t1\n"
    assert (plots / "dev" / "perplexity.tsv").read_text() == "step\tperplexity\n4\t17.25\n"
    summary = json.loads((tmp_path / "m" / "metrics.json").read_text())
    assert (summary["step"], summary["train"]["loss"], summary["dev"]["perplexity"]) == (5, 1.0, 17.25)


def test_live_log_of_a_training_that_resumes_goes_on_at_its_step(tmp_path: Path) -> None:
    log = LiveLog(tmp_path, step=0)
    for step in (1, 2, 3):
        log.add(step, {"train/loss": step})
    LiveLog(tmp_path, step=2).add(3, {"train/loss": 7})
    assert live.read(tmp_path) == {"train/loss": [(1, 1), (2, 2), (3, 7)]}
    LiveLog(tmp_path, step=0)
    assert live.read(tmp_path) == {}


def test_live_log_begins_without_touching_what_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.tsv").write_text("precious\n")
    LiveLog(tmp_path, step=0).add(1, {"train/loss": 1})
    assert (tmp_path / "thesis.tsv").read_text() == "precious\n"


def test_live_log_that_cannot_be_written_lets_the_training_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").write_text("a file in the folder's place")
    curve = trainer.train(network(), job(live=tmp_path / "m"), Machine(processes=1))
    assert len(curve) == 3
    assert capsys.readouterr().err.count("no longer written") == 1


def test_live_log_leaves_out_a_line_that_is_still_being_written(tmp_path: Path) -> None:
    path = tmp_path / "plots" / "metrics" / "train" / "loss.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("step\tloss\n1\t2.5\n2\tx\n3\t1.")
    assert live.read(tmp_path) == {"train/loss": [(1, 2.5)]}
