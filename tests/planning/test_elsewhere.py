"""What a plan takes on several machines and on GPUs."""

from pathlib import Path

import pytest
from source_tree import ROOT

from seqkd.config import overlay
from seqkd.config.schema import NetworkSettings, Params
from seqkd.planning import elsewhere, plan
from seqkd.planning.plan import Stage
from stages import plan as plan_stage

MB = 1e6
TRAINING = Stage("train@teacher", 370.0, 0.0, 0.0, start=10.0, trained=7e12, updates=1000.0, gradient=87 * MB)
SEARCH = Stage("decode@k5", 810.0, 0.0, 0.0, start=10.0, spreads=True, searched=2e12)
REPORT = Stage("report", 5.0, 0.0, 0.0)
STAGES = [
    Stage("preprocess", 1.0, 0.0, 0.0),
    Stage("vocab", 1.0, 0.0, 0.0),
    TRAINING,
    TRAINING._replace(name="train@baseline"),
    SEARCH,
    Stage("select@mode", 80.0, 0.0, 0.0, spreads=True),
    TRAINING._replace(name="distill@words"),
    TRAINING._replace(name="distill@whole"),
    TRAINING._replace(name="finetune@whole-near"),
    Stage("evaluate, 2 of 2x48", 8.0, 0.0, 0.0, spreads=True),
    Stage("evaluate, 6 of 1x24", 8.0, 0.0, 0.0, spreads=True),
    Stage("evidence", 1.0, 0.0, 0.0),
    REPORT,
]


def test_lines_are_divided_among_machines_but_not_the_start() -> None:
    assert elsewhere.machine_seconds(SEARCH, 8, 1.0) == (110.0, 8)
    assert elsewhere.machine_seconds(REPORT, 8, 1.0) == (5.0, 1)


def test_training_goes_to_several_machines_only_where_the_gradients_travel_fast_enough() -> None:
    assert elsewhere.exchange_seconds(TRAINING, 8, 1.0) == pytest.approx(2 * 7 / 8 * 87 / 125)
    assert elsewhere.machine_seconds(TRAINING, 8, 1.0) == (370.0, 1)  # 0.36 s an update, 0.7 s and more to send
    for bandwidth, best, seconds in ((10.0, 8, 10 + 360 / 8 + 121.8), (100.0, 8, 10 + 360 / 8 + 12.18)):
        found, machines = elsewhere.machine_seconds(TRAINING, 8, bandwidth)
        assert machines == best
        assert found == pytest.approx(seconds)
    assert elsewhere.machine_seconds(TRAINING, 1, 1.0) == (370.0, 1)


def test_advice_says_when_more_machines_are_slower() -> None:
    alone = {stage.name: (stage.seconds, 1) for stage in STAGES}
    assert elsewhere.advice(STAGES, 8, 1.0, taken=alone) == (
        "At 1 Gb/s train@teacher is slower on 8 of them than on one: an update takes 0.37 s here, and to send "
        "152 MB 1.2 s. Trainings are planned on 1 each, several at once."
    )
    assert "train@teacher is faster on 8 of them than on one" in elsewhere.advice(STAGES, 8, 100.0, taken=alone)


def test_table_has_every_stage_here_on_machines_and_on_a_gpu_in_100_columns(params: Params) -> None:
    name = "finetune@whole-near"
    large = TRAINING._replace(name=name, seconds=1e7, disk=1e12, memory=1e12)
    stages = [large if stage.name == name else stage for stage in STAGES]
    lines = plan_stage._wide_table(stages, params, 8, bandwidth=1.0, gpu_rate=None).splitlines()
    assert lines[0].split() == ["stage", "h", "here", "h", "on", "8", "h,", "a", "GPU", "disk,", "MB", "memory,", "MB"]
    assert [line.split()[0] for line in lines[2 : 2 + len(stages)]] == [stage.name.split()[0] for stage in stages]
    assert lines[6].split() == ["decode@k5", "0.23", "0.03", "0.00", "0", "0"]
    assert lines[2 + len(stages)].startswith("all ")
    assert any(line.startswith("A GPU: an NVIDIA H200") for line in lines)
    assert max(map(len, lines)) <= 100
    stated = plan_stage._wide_table(stages, params, 8, bandwidth=1.0, gpu_rate=30_000.0)
    assert "A GPU: 30,000 target pieces/s in a 2x500 training, as stated" in stated


def test_whole_run_trains_several_models_at_once(params: Params) -> None:
    """The longest chain: preprocess, vocab, teacher, whole and its finetuning; the rest runs beside it."""
    found, taken = elsewhere.on_machines(STAGES, params, 8, 1.0)
    assert taken["train@teacher"] == (370.0, 1)
    assert found == pytest.approx(2 + 370 + 110 + 10 + 2 * 370 + 2 + 1 + 5)
    alone = elsewhere.whole_run(STAGES, params, 1, taken={stage.name: (stage.seconds, 1) for stage in STAGES})
    assert alone == pytest.approx(sum(stage.seconds for stage in STAGES))


def test_whole_run_keeps_trainings_on_one_machine_each_where_there_are_enough_of_them(params: Params) -> None:
    """A training on both of two machines would be faster, but two trainings side by side are done sooner."""
    stages = [TRAINING._replace(name="train@teacher"), TRAINING._replace(name="train@baseline")]
    found, taken = elsewhere.on_machines(stages, params, 2, 10.0)
    assert (found, taken["train@teacher"]) == (370.0, (370.0, 1))
    found, taken = elsewhere.on_machines(stages[:1], params, 2, 10.0)
    assert taken["train@teacher"][1] == 2
    assert found == taken["train@teacher"][0] == pytest.approx(10 + 180 + 69.6)


def test_gpu_takes_the_measured_rate_of_the_measured_network_and_scales_by_weights() -> None:
    weights = plan.weights(elsewhere.MEASURED_SIZE, elsewhere.MEASURED_PIECES)
    rates = elsewhere.gpu_rates("bf16")
    trained = TRAINING._replace(trained=206_101.0 * weights * 60)
    assert elsewhere.gpu_seconds(trained, rates) == pytest.approx(10 + 60)
    searched = SEARCH._replace(searched=1_648 * 35 * 14.1 * weights * 60)
    assert elsewhere.gpu_seconds(searched, rates) == pytest.approx(10 + 60)
    assert elsewhere.gpu_seconds(REPORT, rates) == 5.0
    half = elsewhere.gpu_rates("bf16", 206_101 / 2)
    assert elsewhere.gpu_seconds(searched, half) == pytest.approx(10 + 120)
    larger = plan.weights(NetworkSettings(size="4x1000", dropout=0.0), 50_000)
    assert 8 < larger / weights < 10


def test_rates_are_those_of_the_report() -> None:
    report = (ROOT / "reports/benchmarks.md").read_text(encoding="utf-8").partition("## 2x500 on a GPU")[2]
    for precision, (trained, (sentences, _, pieces)) in elsewhere.MEASURED.items():
        rows = [line for line in report.splitlines() if f", {precision} " in line]
        assert any(f" {trained:,.0f} target words/s" in line for line in rows)
        assert any(f" {sentences:,.0f} sentences/s" in line and f" {pieces} pieces" in line for line in rows)


def test_settings_of_a_file_are_previewed_without_a_change_of_params(tmp_path: Path) -> None:
    before = (ROOT / "params.yaml").read_bytes()
    found = overlay.preview(ROOT / "configs/wmt14-en-de.yaml", params=ROOT / "params.yaml")
    assert (found.teacher.size, found.vocab.size) == ("4x1000", 50_000)
    assert (ROOT / "params.yaml").read_bytes() == before
