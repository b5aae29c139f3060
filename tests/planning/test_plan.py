"""What a plan is made of, beside what work then takes; the plan of a small project."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import plan_sample
import psutil
import pytest
import torch

from seqkd.config.machine import Machine
from seqkd.config.schema import DistillSettings, FinetuneSettings, NetworkSettings, Params
from seqkd.data.batches import TokenizedCorpus
from seqkd.planning import plan
from seqkd.planning.plan import Cost, Sample
from seqkd.training import teacher, trainer
from seqkd.utils.errors import InputError

MB = 1 << 20


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Sample:
    return plan_sample.make(tmp_path_factory.mktemp("vocab"), params)


def test_sample_text_leaves_out_pairs_too_long_to_train_on(sample: Sample) -> None:
    data = sample.params.data.model_copy(update={"max_length": 12})
    short = replace(sample, params=sample.params.model_copy(update={"data": data}))
    assert 0 < len(short.text.sources) < len(sample.text.sources)
    assert max(short.text.longest([row]) for row in range(len(short.text))) in (12, 13)
    data = data.model_copy(update={"max_length": 1})
    with pytest.raises(InputError, match=r"no pair is left to train on; raise data\.max_length in params\.yaml"):
        _ = replace(sample, params=sample.params.model_copy(update={"data": data})).text


# What stages take, with made-up costs.


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage starts in 2 s; a token of a training takes 1 s, one of a search 0.01 s, a line of a selection 0.5 s."""
    seconds = {plan.train_slice: 1.0, plan.decode_slice: 0.01, plan.select_slice: 0.5}
    monkeypatch.setattr(plan, "_start", lambda _: (1.5, 1.5, 0))
    monkeypatch.setattr(plan, "DVC", 0.5)
    monkeypatch.setattr(plan, "_cost", lambda work, *_, **__: Cost(0.0, seconds[work], 300_000_000))


def seconds(sample: Sample, **changes: Any) -> dict[str, float]:
    return {stage.name: stage.seconds - 2.0 for stage in plan.stages(replace(sample, **changes))}


def optim(sample: Sample, section: str, **values: Any) -> Params:
    table = sample.params.optim
    settings = getattr(table, section).model_copy(update=values)
    return sample.params.model_copy(update={"optim": table.model_copy(update={section: settings})})


@pytest.mark.usefixtures("costs")
def test_stages_have_a_line_for_every_row_of_the_settings(sample: Sample) -> None:
    assert list(seconds(sample)) == [
        "preprocess", "vocab", "train@teacher", "train@baseline", "decode@k5", "decode@k35", "select@mode",
        "select@near", "distill@words", "distill@whole", "finetune@whole-near", "finetune@teacher-near", "prune@0.5",
        "prune@0.9", "evaluate, 2 of 2x48", "evaluate, 6 of 1x24", "evidence", "report", "speed",
    ]  # fmt: skip


@pytest.mark.usefixtures("costs")
def test_training_time_is_epochs_times_tokens_and_a_pass_over_dev(sample: Sample) -> None:
    epochs, tokens = sample.params.optim.student.epochs, sample.tokens
    assert seconds(sample)["train@baseline"] == pytest.approx(epochs * (600 + 50 / 3) * tokens)
    twice = seconds(sample, params=optim(sample, "student", epochs=2 * epochs))["train@baseline"]
    assert twice == pytest.approx(2 * seconds(sample)["train@baseline"])


@pytest.mark.usefixtures("costs")
def test_word_kd_reads_its_text_once_or_in_every_epoch_where_it_is_too_large_to_keep(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs, read = sample.params.optim.student.epochs, 600 * sample.tokens / 3
    once = seconds(sample)
    assert once["distill@words"] - once["distill@whole"] == pytest.approx(read)
    monkeypatch.setattr(teacher, "MAX_STORE_BYTES", 1000)
    each = seconds(sample)
    assert each["distill@words"] - each["distill@whole"] == pytest.approx(epochs * read)


@pytest.mark.usefixtures("costs")
def test_pruned_model_is_trained_for_the_epochs_of_both_its_trainings(sample: Sample) -> None:
    epochs = sample.params.optim.retrain.epochs + sample.params.optim.finetune.epochs
    assert seconds(sample)["prune@0.5"] == pytest.approx(epochs * (600 + 50 / 3) * sample.tokens)


@pytest.mark.usefixtures("costs")
def test_on_policy_training_translates_and_asks_the_teacher_anew_in_every_epoch(sample: Sample) -> None:
    before, epochs = seconds(sample), sample.params.optim.finetune.epochs
    row = FinetuneSettings(train_text="own", init_from="whole", alpha=1.0)
    own = sample.params.model_copy(update={"finetune": {**sample.params.finetune, "own": row, "plain": row}})
    plain = row.model_copy(update={"train_text": "reference", "alpha": 0.0})
    own = own.model_copy(update={"finetune": {**own.finetune, "plain": plain}})
    found = seconds(sample, params=own)
    assert set(found) - set(before) == {"finetune@own", "finetune@plain", "evaluate, 8 of 1x24"}
    read, search = 600 * sample.tokens / 3, 600 * sample.tokens * plan.SEARCHED * 0.01
    assert found["finetune@own"] - found["finetune@plain"] == pytest.approx(epochs * (read + search))


@pytest.mark.usefixtures("costs")
def test_training_time_of_an_ensemble_and_of_a_longer_text_is_a_multiple(sample: Sample) -> None:
    several = sample.params.teacher.model_copy(update={"members": 3})
    mixed = DistillSettings(train_text="twice", alpha=0.0, epochs=4)
    rows = {"teacher": several, "mix": {"twice": {"reference": 2}}, "distill": {**sample.params.distill, "x": mixed}}
    found, before = seconds(sample, params=sample.params.model_copy(update=rows)), seconds(sample)
    assert found["train@teacher"] == pytest.approx(3 * before["train@teacher"])
    assert found["distill@x"] == pytest.approx(4 * (2 * 600 + 50 / 3) * sample.tokens)


@pytest.mark.usefixtures("costs")
def test_search_time_is_lines_times_beam_times_pieces(sample: Sample) -> None:
    stages = seconds(sample)
    assert stages["decode@k5"] == pytest.approx(600 * 5 * sample.tokens * plan.SEARCHED * 0.01)
    assert stages["decode@k35"] == pytest.approx(7 * stages["decode@k5"])
    evaluated = 40 * (1 + 5) * sample.tokens * plan.SEARCHED * 0.01
    assert stages["evaluate, 6 of 1x24"] + 2.0 == pytest.approx(6 * (evaluated + 2.0))


@pytest.mark.usefixtures("costs")
def test_search_and_selection_leave_out_the_lines_that_a_row_leaves_out(sample: Sample) -> None:
    third = replace(sample, pairs=[pair if pair.id % 9 else pair._replace(target="") for pair in sample.pairs])
    decode = {name: row.model_copy(update={"monolingual": name == "k5"}) for name, row in sample.params.decode.items()}
    stages = seconds(third, params=sample.params.model_copy(update={"decode": decode}))
    assert stages["decode@k35"] == pytest.approx(7 * stages["decode@k5"] * 2 / 3)
    assert stages["select@near"] < seconds(third)["select@near"]


@pytest.mark.usefixtures("costs")
def test_stages_need_more_of_everything_for_more_pairs(sample: Sample) -> None:
    few, many = (list(plan.stages(replace(sample, train=pairs))) for pairs in (600, 60_000))
    for less, more in zip(few, many, strict=True):
        if not less.name.startswith(("evaluate", "evidence", "report", "speed")):
            assert more.seconds > less.seconds
            assert (more.disk, more.memory) >= (less.disk, less.memory)


# What slices measure.


def test_train_slice_reads_the_longest_batch_in_every_epoch(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[TokenizedCorpus] = []
    monkeypatch.setattr(trainer, "train", lambda _, job, __: read.append(job.text))
    kind: Any = {"network": plan.TINY, "settings": sample.params.optim.student, "top_k": None}
    once, twice = (plan.train_slice(sample, epochs, **kind) for epochs in (1, 2))
    assert twice == 2 * once == 2 * read[0].target_tokens
    full = len(sample.pairs) // sample.params.optim.student.batch_size * sample.params.optim.student.batch_size
    assert len(sorted(sample.text.sources, key=len)[full - 1]) == max(map(len, read[0].sources))


@pytest.mark.slow
def test_slices_count_what_they_did_in_all_processes(sample: Sample) -> None:
    two = replace(sample, machine=Machine(processes=2, device="cpu"))
    assert plan.select_slice(two, 7, settings=sample.params.select["near"], beam=5) == 14
    kind: Any = {"network": plan.TINY, "precision": "fp32"}
    one, two_lines = plan.decode_slice(sample, 2, beam=3, **kind), plan.decode_slice(two, 1, beam=3, **kind)
    assert one == two_lines > 2 * 3


def _hold(units: int) -> int:
    """Hold so many MB for a while, as much in a child."""
    held = bytearray(os.urandom(MB) * units)
    child = subprocess.Popen([sys.executable, "-c", f"import time; x = bytearray(b'x' * {units << 20}); time.sleep(1)"])
    child.wait()
    return len(held)


def _kill(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_run_measures_the_memory_of_a_slice_and_its_children() -> None:
    tokens, taken, memory = plan._run(_hold, 100)
    assert (tokens, taken > 1.0) == (100 * MB, True)
    assert 200 * MB < memory < psutil.Process().memory_info().rss + 260 * MB


def test_run_keeps_to_this_process_once_it_uses_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """No child could use the GPU then."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert plan._run(lambda units: units * os.getpid(), 2)[0] == 2 * os.getpid()


def test_run_says_that_a_slice_was_killed() -> None:
    with pytest.raises(InputError, match="a worker process was killed, perhaps for lack of memory"):
        plan._run(_kill, 1)


def test_cost_measures_a_slice_again_that_another_process_disturbed(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four lines cannot take more than four times as long as one."""
    measured = iter([(1, 0.5, 0), (4, 13.0, 0), (4, 1.7, 0)])
    monkeypatch.setattr(plan, "_run", lambda *_: next(measured))
    monkeypatch.setattr(plan, "_start", lambda _: (0.0, 0.0, 0))
    cost = plan._cost(plan.select_slice, replace(sample), 4, kind=1)
    assert cost.per_token == pytest.approx(0.4)
    assert cost.fixed == pytest.approx(0.1)


def _clocked(work: Callable[[int], int], units: int) -> tuple[int, float, int]:
    began = time.process_time()
    return work(units), time.process_time() - began, 0


@pytest.mark.slow
def test_cost_of_slices_predicts_larger_work_within_a_half(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the processor's clock, for other processes disturb any other."""
    monkeypatch.setattr(plan, "_run", _clocked)
    settings = sample.params.optim.student.model_copy(update={"learning_rate": 1e-4, "warmup_steps": 0})
    training = {"network": sample.params.student, "settings": settings}
    wide = NetworkSettings(size="2x128", dropout=0.0)
    for work, most, units, kind in (
        (plan.train_slice, 1024, 60, {**training, "top_k": None}),
        (plan.train_slice, 1024, 60, {**training, "top_k": 0}),
        (plan.decode_slice, 250, 400, {"network": wide, "beam": 20, "precision": "bf16"}),
    ):
        cost = plan._cost(work, replace(sample), most, **kind)
        tokens, taken, _ = _clocked(partial(work, sample, **kind), units)
        predicted = cost.fixed + cost.per_token * tokens
        assert taken / 1.5 < predicted < 1.5 * taken, f"{work.__name__}: {predicted:.2f} s, took {taken:.2f} s"
