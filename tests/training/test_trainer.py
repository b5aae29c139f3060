"""Training: it learns, repeats bit for bit, resumes where it stopped, and keeps pruned weights at zero."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trainings import DEV, DRAWN, TEXT, flat, lesson, network, settings

from seqkd.config.schema import Machine
from seqkd.data import batches
from seqkd.models import perplexity
from seqkd.training import pruning, teacher, trainer, training_state
from seqkd.training.data_parallel import DataParallelGroup
from seqkd.training.teacher import FullTargets, TopKCache, TopKTargets
from seqkd.training.training_state import CheckpointSaver, StateTensors, TrainingState
from seqkd.utils.errors import InputError, StoppedError


def test_training_learns_to_copy() -> None:
    net = network(dropout=0.0)
    curve = trainer.train(
        net, lesson(settings=settings(epochs=40, learning_rate=0.02, batch_size=4)), Machine(processes=1)
    )
    assert curve[0].dev_perplexity > 5.0
    assert curve[-1].dev_perplexity < 2.5
    assert [line.epoch for line in curve] == list(range(1, 41))
    assert curve[-1].updates == 40 * 24


@pytest.mark.parametrize("processes", [1, 2])
def test_the_same_seed_gives_the_same_bits(processes: int) -> None:
    first, second, other = network(), network(), network()
    curve = trainer.train(first, lesson(), Machine(processes=processes))
    assert trainer.train(second, lesson(), Machine(processes=processes)) == curve
    assert torch.equal(flat(first), flat(second))
    trainer.train(other, lesson(seed=6), Machine(processes=processes))
    assert not torch.equal(flat(first), flat(other))


@pytest.mark.parametrize("method", ["adam", "sgd"])
def test_the_number_of_processes_changes_no_bit(method: str) -> None:
    """Three shards of a batch of 24, so that two processes have an unequal number of them."""
    given = settings(optimizer=method, learning_rate=0.02, shards=3, batch_size=24, max_grad_norm=0.5)
    nets, curves = [network() for _ in range(3)], []
    for processes, net in enumerate(nets, start=1):
        curves.append(trainer.train(net, lesson(settings=given), Machine(processes=processes)))
    assert curves[0] == curves[1] == curves[2]
    assert torch.equal(flat(nets[0]), flat(nets[1]))
    assert torch.equal(flat(nets[0]), flat(nets[2]))


def test_the_number_of_shares_changes_nothing_but_the_order_of_sums() -> None:
    one, two = network(dropout=0.0), network(dropout=0.0)
    trainer.train(one, lesson(settings=settings(optimizer="sgd", learning_rate=0.5, shards=1)), Machine(processes=1))
    trainer.train(two, lesson(settings=settings(optimizer="sgd", learning_rate=0.5, shards=2)), Machine(processes=1))
    torch.testing.assert_close(flat(one), flat(two), rtol=1e-4, atol=1e-5)
    assert not torch.equal(flat(one), flat(two))


EVERY_UPDATE = 0.0  # seconds between two saved states


@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": "sgd", "schedule": "halve", "keep": "best", "start_decay_epoch": 2}]
)
def test_a_training_ended_at_any_update_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    """Ended right after the state was saved, with another number of processes each time."""
    given = lesson(settings=settings(**changes), resume=tmp_path)
    whole = network()
    curve = trainer.train(whole, lesson(settings=given.settings), Machine(processes=1))

    class StopError(Exception):
        pass

    saves = []
    save = CheckpointSaver.save

    def save_and_end(keeper: CheckpointSaver, state: TrainingState, tensors: StateTensors) -> None:
        save(keeper, state, tensors)
        saves.append((len(state.curve), state.batches))
        if len(saves) % 2 == 0 and len(state.curve) < 3:
            raise StopError

    monkeypatch.setattr(CheckpointSaver, "save", save_and_end)
    runs = 0
    while True:
        resumed = network(seed=9 if runs else 1)
        try:
            found = trainer.train(resumed, given, Machine(processes=1 + runs % 2, checkpoint_interval=EVERY_UPDATE))
        except StopError:
            runs += 1
        else:
            break
    places = [(epoch, batch) for epoch in range(3) for batch in range(7)]
    assert saves == [*places[1:], (3, 0)]
    assert runs == 10
    assert found == curve
    assert torch.equal(flat(resumed), flat(whole))


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    given = lesson(resume=tmp_path, settings=settings(keep_checkpoint="best", learning_rate=0.2, schedule="constant"))
    first, again = network(), network(seed=9)
    curve = trainer.train(first, given, Machine(processes=1))
    before = sorted(tmp_path.iterdir())
    assert trainer.train(again, given, Machine(processes=2)) == curve
    assert torch.equal(flat(first), flat(again))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_signal_lets_the_state_be_saved_first(tmp_path: Path, number: int, processes: int) -> None:
    before = signal.getsignal(number)
    signal.signal(number, signal.default_int_handler)
    whole, net = network(), network()
    long = settings(epochs=40, batch_size=8)
    curve = trainer.train(whole, lesson(settings=long), Machine(processes=1))
    threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
    with pytest.raises(StoppedError, match="the state is saved") as stopped:
        trainer.train(net, lesson(settings=long, resume=tmp_path), Machine(processes=processes))
    assert stopped.value.signal == number
    assert signal.getsignal(number) is signal.default_int_handler
    signal.signal(number, before)
    found = training_state.latest(tmp_path)
    assert found is not None
    assert 0 < found[0].updates < 40 * 12
    assert trainer.train(net, lesson(settings=long, resume=tmp_path), Machine(processes=1)) == curve
    assert torch.equal(flat(net), flat(whole))


class Spoilt:
    """Makes chosen updates' gradients not finite, as they are where the loss is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> None:
        learn, self.calls = trainer._Worker._learn, 0

        def spoilt(training: trainer._Worker, share: int, part: Any) -> Tensor | float:
            nats = learn(training, share, part)
            if training.state.updates in bad and share == training.team.shards - 1:
                training.team.gradients[share, 7] = float("nan")
            return nats

        monkeypatch.setattr(trainer._Worker, "_learn", spoilt)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_update_with_a_gradient_that_is_not_finite_is_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, processes: int
) -> None:
    Spoilt(monkeypatch, {2, 3, 17})
    net = network()
    curve = trainer.train(net, lesson(resume=tmp_path), Machine(processes=processes))
    found = training_state.latest(tmp_path)
    assert found is not None
    assert (found[0].skipped, found[0].in_a_row, found[0].updates) == (3, 1, 18)
    assert flat(net).isfinite().all()
    assert all(1.0 < line.train_loss < 3.0 for line in curve)


@pytest.mark.parametrize(
    ("bad", "processes"), [(set(range(8, 30)), 1), (set(range(8, 30)), 2), (set(range(0, 40, 2)), 1)]
)
def test_too_many_such_updates_end_the_training_with_advice_and_the_last_good_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bad: set[int], processes: int
) -> None:
    Spoilt(monkeypatch, bad)
    given = lesson(resume=tmp_path, settings=settings(epochs=9), row="teacher")
    with pytest.raises(
        InputError, match=r"updates were not finite; lower optim\.teacher\.rate or optim\.teacher\.clip"
    ):
        trainer.train(network(), given, Machine(processes=processes))
    found = training_state.latest(tmp_path)
    assert found is not None
    assert found[1].weights.isfinite().all()


def test_numbers_that_run_away_end_in_advice_and_no_traceback() -> None:
    wild = settings(optimizer="sgd", learning_rate=1e30, schedule="constant", max_grad_norm=1e30, epochs=30)
    with pytest.raises(InputError, match="not finite; lower optim"):
        trainer.train(network(), lesson(settings=wild), Machine(processes=1))


def test_a_pruned_weight_stays_exactly_zero_through_retraining() -> None:
    for method in ("adam", "sgd"):
        net = network()
        mask = pruning.mask(net, 0.6)
        pruning.apply(net, mask)
        trainer.train(net, lesson(settings=settings(optimizer=method), mask=mask), Machine(processes=2))
        assert not flat(net)[~mask].any()
        assert flat(net)[mask].all()


def test_beta2_tells_from_the_second_update_on() -> None:
    """The first is corrected for the zero that the means begin at, and so the same for every beta2."""
    for epochs, alike in ((1, True), (2, False)):
        nets = network(), network()
        for net, beta2 in zip(nets, (0.5, 0.999), strict=True):
            given = settings(beta2=beta2, epochs=epochs, batch_size=len(DRAWN), schedule="constant")
            trainer.train(net, lesson(settings=given), Machine(processes=1))
        assert torch.allclose(flat(nets[0]), flat(nets[1]), atol=1e-5) == alike


def test_the_best_epoch_is_kept_when_asked_for() -> None:
    net = network(dropout=0.0)
    wild = settings(
        learning_rate=0.5, schedule="constant", epochs=4, keep_checkpoint="best", optimizer="sgd", max_grad_norm=50.0
    )
    curve = trainer.train(net, lesson(settings=wild), Machine(processes=1))
    assert perplexity.perplexity(net, DEV) == pytest.approx(min(line.dev_perplexity for line in curve), rel=1e-5)


def test_patience_ends_a_training_that_no_longer_gets_better() -> None:
    still = settings(learning_rate=1e-12, epochs=9, patience=2, schedule="constant", optimizer="sgd")
    assert len(trainer.train(network(dropout=0.0), lesson(settings=still), Machine(processes=1))) <= 4


def test_no_room_in_shared_memory_is_one_sentence_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Tensor) -> Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2>: No space left on device (28)")

    monkeypatch.setattr(Tensor, "share_memory_", full)
    with pytest.raises(InputError, match=r"^no room in shared memory for \d+ MB more; enlarge /dev/shm .*processes: 1"):
        trainer.train(network(), lesson(), Machine(processes=2, device="cpu"))


def test_the_papers_rule_halves_from_the_first_worse_epoch_and_then_every_epoch() -> None:
    slow = settings(optimizer="sgd", learning_rate=0.5, schedule="halve", epochs=5, start_decay_epoch=3, warmup_steps=0)
    curve = trainer.train(network(dropout=0.0), lesson(settings=slow), Machine(processes=1))
    worse = [one.dev_perplexity > other.dev_perplexity for one, other in zip(curve[1:], curve, strict=False)]
    assert not any(worse)
    assert [line.learning_rate for line in curve] == [0.5, 0.5, 0.25, 0.125, 0.0625]


def test_perplexity_of_an_even_network_is_its_vocabulary() -> None:
    net = network()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert perplexity.perplexity(net, DEV) == pytest.approx(12.0)


def test_the_kept_vectors_give_the_teachers_own_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(dropout=0.5)
    team = DataParallelGroup(network(), 1)
    kept = FullTargets(net, TEXT, team)
    kept.precompute(team)
    monkeypatch.setattr(teacher, "MAX_STORE_BYTES", 0)
    anew = FullTargets(net, TEXT, team)
    anew.precompute(team)
    batch = batches.collate(TEXT, [7, 3, 50])
    words = sum(len(TEXT.targets[row]) + 1 for row in (7, 3, 50))
    assert kept.targets(batch).shape == (words, 12)
    torch.testing.assert_close(kept.targets(batch), anew.targets(batch))
    with torch.no_grad():
        vectors = net(batch.source, batch.decoder_input)[batch.labels != 0]
        torch.testing.assert_close(kept.targets(batch), net.logits(vectors).softmax(-1))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_student_comes_closer_to_its_teacher_by_word_kd(processes: int) -> None:
    master = network(seed=3, dropout=0.0)
    long = settings(epochs=30, learning_rate=0.02, batch_size=8)
    reached = trainer.train(master, lesson(settings=long), Machine(processes=1))[-1].dev_perplexity
    optimizer = network(dropout=0.0)
    curve = trainer.train(optimizer, lesson(alpha=1.0, teacher=master, settings=long), Machine(processes=processes))
    assert curve[0].dev_perplexity > 1.5 * reached
    assert curve[-1].dev_perplexity == pytest.approx(reached, rel=0.2)


def kept_words(folder: Path) -> TopKTargets:
    made = TopKTargets(network(seed=3, dropout=0.0), TEXT, TopKCache(4, folder))
    made.precompute(DataParallelGroup(network(), 1))
    return made


def test_a_shortlist_holds_the_teachers_likeliest_words_and_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "LINES_PER_FILE", 40)  # three parts, the batch from all of them
    batch = batches.collate(TEXT, [7, 3, 50, 95])
    full = FullTargets(network(seed=3, dropout=0.0), TEXT, DataParallelGroup(network(), 1))
    full.precompute(DataParallelGroup(network(), 1))
    ids, shards = kept_words(tmp_path / "k").targets(batch)
    wanted, listed = full.targets(batch).topk(4)
    assert sorted(path.name for path in (tmp_path / "k").iterdir()) == ["00000000", "00000040", "00000080"]
    assert torch.equal(ids.long(), listed)
    torch.testing.assert_close(shards[:, :4], wanted, rtol=2e-3, atol=1e-6)  # half precision
    torch.testing.assert_close(shards.sum(-1), torch.ones(len(ids)))
    assert shards.shape == (sum(len(TEXT.targets[row]) + 1 for row in batch.rows), 5)


def test_a_part_that_is_there_is_not_made_again_and_a_missing_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "LINES_PER_FILE", 40)
    kept_words(tmp_path / "k")
    before = {path.name: path.stat().st_ino for path in (tmp_path / "k").iterdir()}
    (tmp_path / "k" / "00000040").unlink()
    kept_words(tmp_path / "k")
    after = {path.name: path.stat().st_ino for path in (tmp_path / "k").iterdir()}
    assert after.keys() == before.keys()
    assert [name for name in before if before[name] == after[name]].count("00000000") == 1
    assert after["00000080"] == before["00000080"]


def test_the_shortlists_used_longest_ago_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "MAX_CACHED", 2)
    for name in ("a", "b"):
        kept_words(tmp_path / name)
        os.utime(tmp_path / name, (1, 1) if name == "a" else (2, 2))
    kept_words(tmp_path / "a")
    kept_words(tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_shortlist_of_all_words_teaches_as_the_whole_distribution_does(tmp_path: Path, processes: int) -> None:
    master = network(seed=3, dropout=0.0)
    whole, short = network(dropout=0.0), network(dropout=0.0)
    curves = [
        trainer.train(optimizer, lesson(alpha=0.7, teacher=master, kept=kept), Machine(processes=processes))
        for optimizer, kept in ((whole, None), (short, TopKCache(99, tmp_path / "k")))
    ]
    assert curves[0][-1].dev_perplexity == pytest.approx(curves[1][-1].dev_perplexity, rel=1e-2)
    assert curves[0][-1].train_loss == pytest.approx(curves[1][-1].train_loss, rel=1e-3)
