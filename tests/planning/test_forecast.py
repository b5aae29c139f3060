"""The costs of a sample times the counts of params.yaml."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seqkd.config.schema import Machine, Params
from seqkd.planning import budget, forecast
from seqkd.planning.budget import CorpusStats
from seqkd.planning.costs import Costs, SearchCost, TrainingCost, kinds, search_workloads
from seqkd.planning.forecast import Forecast, Line
from seqkd.utils.errors import InputError

MACHINE = Machine(processes=1, device="cpu")


def costs(params: Params, machine: Machine = MACHINE) -> Costs:
    """Round numbers: a tenth of a second an update, a hundredth of one a row and step."""
    return Costs(
        start=2.0,
        bare=1.0,
        read=0.0,
        trainings={kind: TrainingCost(0.1, 0.001 if kind.distilling else 0.0) for kind, _ in kinds(params).values()},
        searches=dict.fromkeys(search_workloads(params, machine, dev=0, test=100), SearchCost(0.0, 0.01)),
        likelihood={"teacher": 0.0, "student": 0.0},
        selections=dict.fromkeys(params.select, 0.5),
        written=0.0,
        scored=0.0,
        memory=300_000_000,
    )


def lines(params: Params, *, pairs: int = 6400, machine: Machine = MACHINE, **other: Any) -> dict[str, Line]:
    text = CorpusStats(pairs, 9.0, 9.0, 40)
    measured = replace(costs(params, machine), **other)
    return {line.stage: line for line in Forecast(params, machine, measured, text, dev=0, test=100).lines()}


def changed(params: Params, section: str, **values: Any) -> Params:
    inner = getattr(params.optim, section).model_copy(update=values)
    return params.model_copy(update={"optim": params.optim.model_copy(update={section: inner})})


def test_a_training_takes_its_updates(params: Params) -> None:
    settings = params.optim.teacher
    updates = settings.epochs * -(-6400 // settings.batch_size)
    assert lines(params)["train@teacher"].seconds == pytest.approx(2.0 + 0.1 * updates)


def test_word_kd_reads_its_text_once_before(params: Params) -> None:
    found = lines(params)
    assert found["distill@words"].seconds - found["distill@whole"].seconds == pytest.approx(6400 * 0.001)


def test_word_kd_reads_a_text_too_large_to_keep_in_every_epoch(params: Params) -> None:
    pairs, epochs = 10_000_000, params.optim.student.epochs
    found = lines(params, pairs=pairs)
    assert found["distill@words"].seconds - found["distill@whole"].seconds == pytest.approx(pairs * epochs * 0.001)


def test_a_pruned_model_is_trained_twice(params: Params) -> None:
    again, finer = (
        settings.epochs * -(-6400 // settings.batch_size) for settings in (params.optim.retrain, params.optim.finetune)
    )
    assert lines(params)["prune@0.5"].seconds == pytest.approx(2.0 + 0.1 * (again + finer))


def test_a_list_takes_its_rows_and_steps(params: Params) -> None:
    found = lines(params)
    assert found["decode@k35"].seconds - 2.0 == pytest.approx(7 * (found["decode@k5"].seconds - 2.0))
    assert found["decode@k5"].seconds - 2.0 == pytest.approx(6400 * 5 * 10 * 0.01 * forecast.LIST)


def test_two_processes_halve_a_search_and_a_selection(params: Params) -> None:
    two = Machine(processes=2, device="cpu")
    alone, both = lines(params), lines(params, machine=two)
    for stage, start in (("decode@k35", 2.0), ("select@near", 1.0)):
        assert alone[stage].seconds - start == pytest.approx(2 * (both[stage].seconds - start))


def test_twice_the_epochs_take_twice_as_long(params: Params) -> None:
    once = lines(params)["train@baseline"].seconds - 2.0
    twice = lines(changed(params, "student", epochs=2 * params.optim.student.epochs))["train@baseline"].seconds - 2.0
    assert twice == pytest.approx(2 * once)


def test_more_lines_cost_more_of_everything(params: Params) -> None:
    few, many = lines(params), lines(params, pairs=64_000)
    for stage in few:
        if stage.startswith(("train", "decode", "select", "distill", "finetune", "prune@")):
            assert many[stage].seconds > 5 * few[stage].seconds - 10
            assert many[stage].disk >= few[stage].disk
            assert many[stage].memory >= few[stage].memory


def test_every_row_has_its_line(params: Params) -> None:
    assert set(lines(params)) == {
        "preprocess", "vocab", "train@teacher", "train@baseline", "decode@k5", "decode@k35", "select@mode",
        "select@near", "distill@words", "distill@whole", "finetune@whole-near", "finetune@teacher-near", "prune@0.5",
        "prune@0.9", "evaluate, 2 of teacher size", "evaluate, 6 of student size", "report", "speed",
    }  # fmt: skip


def test_a_pruned_model_takes_less_disk_than_a_whole_one(params: Params) -> None:
    found = lines(params)
    assert found["prune@0.9"].disk < found["prune@0.5"].disk < found["train@baseline"].disk


def test_the_table_ends_with_the_whole(params: Params) -> None:
    table = [Line("train", 90.0, 2e6, 4e8), Line("decode", 3600.0, 1e6, 2e9)]
    assert forecast.plain(table).splitlines() == [
        "stage       time    disk    memory",
        "-------  -------  ------  --------",
        "train    1.5 min  2.0 MB    400 MB",
        "decode    60 min  1.0 MB    2.0 GB",
        "all       62 min  3.0 MB    2.0 GB",
    ]


def test_what_a_whole_run_needs_is_all_disk_and_the_largest_memory() -> None:
    need = forecast.need([Line("train", 1.0, 2e6, 4e8), Line("decode", 1.0, 1e6, 2e9)], Path("here"))
    assert (need.memory, need.disk) == (2_000_000_000, {Path("here"): 3_000_000})
    with pytest.raises(InputError, match=r"A whole run, decode most of all, needs about 2\.0 GB of memory"):
        budget.require(need, memory=1_000_000_000, disk=3_000_000)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (89.0, "89 s"), (150.0, "2.5 min"), (1500.0, "25 min"), (9000.0, "2.5 h"), (400_000.0, "4.6 days")],
)
def test_times_are_shown_in_the_fitting_unit(seconds: float, shown: str) -> None:
    assert forecast.lasting(seconds) == shown
