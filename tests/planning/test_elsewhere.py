"""What a plan takes on several machines and on GPUs."""

from pathlib import Path

import pytest
from source_tree import ROOT

from seqkd.config import overlay
from seqkd.config.schema import NetworkSettings, Params
from seqkd.planning import elsewhere, plan
from seqkd.planning.plan import Stage

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
    assert elsewhere.exchange_seconds(TRAINING, 8, 1.0) == pytest.approx(7 * 87 / 125)
    assert elsewhere.machine_seconds(TRAINING, 8, 1.0) == (370.0, 1)  # 0.36 s an update, 0.7 s for one exchange
    for bandwidth, best, seconds in ((10.0, 2, 10 + 360 / 2 + 69.6), (100.0, 8, 10 + 360 / 8 + 48.72)):
        found, machines = elsewhere.machine_seconds(TRAINING, 8, bandwidth)
        assert machines == best
        assert found == pytest.approx(seconds)
    assert elsewhere.machine_seconds(TRAINING, 1, 1.0) == (370.0, 1)


def test_advice_says_when_more_machines_are_slower() -> None:
    assert elsewhere.advice(STAGES, 8, 1.0) == (
        "At 1 Gb/s train@teacher is slower on 8 of them than on one: an update takes 0.37 s here, and the exchange of "
        "7 x 87 MB 4.9 s. Each training is planned on as many as make it fastest: 1."
    )
    assert elsewhere.advice(STAGES, 8, 100.0).startswith("At 100 Gb/s train@teacher is faster on 8 of them than on one")


def test_whole_run_trains_several_models_at_once(params: Params) -> None:
    """The longest chain: preprocess, vocab, teacher, whole and its finetuning; the rest runs beside it."""
    taken = {stage.name: elsewhere.machine_seconds(stage, 8, 1.0) for stage in STAGES}
    found = elsewhere.whole_run(STAGES, params, 8, taken=lambda stage: taken[stage.name])
    assert found == pytest.approx(2 + 370 + 110 + 10 + 2 * 370 + 2 + 1 + 5)
    alone = elsewhere.whole_run(STAGES, params, 1, taken=lambda stage: (stage.seconds, 1))
    assert alone == pytest.approx(sum(stage.seconds for stage in STAGES))


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
