"""Training: it learns, repeats bit for bit, resumes where it stopped, and keeps pruned weights at zero."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from seqkd import likelihood, model, pruning, trainer
from seqkd.batches import Text
from seqkd.config import Machine, Optim
from seqkd.curve import Epoch
from seqkd.teacher import Teacher
from seqkd.team import Team
from seqkd.trainer import Lesson

DRAWN = [torch.randint(4, 12, (3 + at % 3,), generator=torch.Generator().manual_seed(at)).tolist() for at in range(96)]
TEXT = Text(DRAWN, DRAWN)  # the task: copy the source
DEV = Text(TEXT.sources[:16], TEXT.targets[:16])
SETTINGS = Optim(method="adam", rate=0.01, schedule="cosine", epochs=3, batch=16, warmup=2)


def network(seed: int = 1, dropout: float = 0.2) -> model.Network:
    made = model.Network(model.Shape(12, 2, 16, dropout))
    made.start(torch.Generator().manual_seed(seed))
    return made


def flat(net: model.Network) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def lesson(**other: object) -> Lesson:
    return Lesson(**{"text": TEXT, "dev": DEV, "settings": SETTINGS, "seed": 5, **other})  # type: ignore[arg-type]


def settings(**other: object) -> Optim:
    return Optim.model_validate(SETTINGS.model_dump() | other)


def test_training_learns_to_copy() -> None:
    net = network(dropout=0.0)
    curve = trainer.train(net, lesson(settings=settings(epochs=40, rate=0.02, batch=4)), Machine(workers=1))
    assert curve[0].dev_perplexity > 5.0
    assert curve[-1].dev_perplexity < 2.5
    assert [line.epoch for line in curve] == list(range(1, 41))
    assert curve[-1].updates == 40 * 24


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_seed_gives_the_same_bits(workers: int) -> None:
    first, second, other = network(), network(), network()
    curve = trainer.train(first, lesson(), Machine(workers=workers))
    assert trainer.train(second, lesson(), Machine(workers=workers)) == curve
    assert torch.equal(flat(first), flat(second))
    trainer.train(other, lesson(seed=6), Machine(workers=workers))
    assert not torch.equal(flat(first), flat(other))


def test_two_processes_take_the_same_step_as_one() -> None:
    """Without dropout the split of a batch changes nothing but the order of a sum."""
    one, two = network(dropout=0.0), network(dropout=0.0)
    trainer.train(one, lesson(settings=settings(method="sgd", rate=0.5)), Machine(workers=1))
    trainer.train(two, lesson(settings=settings(method="sgd", rate=0.5)), Machine(workers=2))
    torch.testing.assert_close(flat(one), flat(two), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path, workers: int) -> None:
    whole, halted = network(), network()
    curve = trainer.train(whole, lesson(resume=tmp_path / "whole"), Machine(workers=workers))

    class StopError(Exception):
        pass

    keep = trainer._Pupil.after

    def stop(pupil: trainer._Pupil, lines: list[Epoch]) -> None:
        keep(pupil, lines)
        if len(lines) == 2 and pupil.team.rank == 0:
            raise StopError

    trainer._Pupil.after = stop  # type: ignore[method-assign, assignment]
    try:
        with pytest.raises(StopError):
            trainer.train(halted, lesson(resume=tmp_path / "halted"), Machine(workers=workers))
    finally:
        trainer._Pupil.after = keep  # type: ignore[method-assign]
    resumed = network()
    assert trainer.train(resumed, lesson(resume=tmp_path / "halted"), Machine(workers=workers)) == curve
    assert torch.equal(flat(resumed), flat(whole))


def test_a_pruned_weight_stays_exactly_zero_through_retraining() -> None:
    for method in ("adam", "sgd"):
        net = network()
        mask = pruning.mask(net, 0.6)
        pruning.apply(net, mask)
        trainer.train(net, lesson(settings=settings(method=method), mask=mask), Machine(workers=2))
        assert not flat(net)[~mask].any()
        assert flat(net)[mask].all()


def test_the_best_epoch_is_kept_when_asked_for() -> None:
    net = network(dropout=0.0)
    wild = settings(rate=0.5, schedule="constant", epochs=4, keep="best", method="sgd", clip=50.0)
    curve = trainer.train(net, lesson(settings=wild), Machine(workers=1))
    assert likelihood.perplexity(net, DEV) == pytest.approx(min(line.dev_perplexity for line in curve), rel=1e-5)


def test_patience_ends_a_training_that_no_longer_gets_better() -> None:
    still = settings(rate=1e-12, epochs=9, patience=2, schedule="constant", method="sgd")
    assert len(trainer.train(network(dropout=0.0), lesson(settings=still), Machine(workers=1))) <= 4


def test_the_papers_rule_halves_from_the_first_worse_epoch_and_then_every_epoch() -> None:
    slow = settings(method="sgd", rate=0.5, schedule="halve", epochs=5, halve_from=3, warmup=0)
    curve = trainer.train(network(dropout=0.0), lesson(settings=slow), Machine(workers=1))
    worse = [one.dev_perplexity > other.dev_perplexity for one, other in zip(curve[1:], curve, strict=False)]
    assert not any(worse)
    assert [line.rate for line in curve] == [0.5, 0.5, 0.25, 0.125, 0.0625]


def test_perplexity_of_an_even_network_is_its_vocabulary() -> None:
    net = network()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert likelihood.perplexity(net, DEV) == pytest.approx(12.0)


def test_the_kept_vectors_give_the_teachers_own_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqkd import batches, teacher

    net = network(dropout=0.5)
    team = Team(network(), 1)
    kept = Teacher(net, TEXT, team)
    kept.read(team)
    monkeypatch.setattr(teacher, "LARGEST_STORE", 0)
    anew = Teacher(net, TEXT, team)
    anew.read(team)
    batch = batches.make(TEXT, [7, 3, 50])
    words = sum(len(TEXT.targets[row]) + 1 for row in (7, 3, 50))
    assert kept.probabilities(batch).shape == (words, 12)
    torch.testing.assert_close(kept.probabilities(batch), anew.probabilities(batch))
    with torch.no_grad():
        vectors = net(batch.source, batch.entered)[batch.expected != 0]
        torch.testing.assert_close(kept.probabilities(batch), net.logits(vectors).softmax(-1))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_student_comes_closer_to_its_teacher_by_word_kd(workers: int) -> None:
    master = network(seed=3, dropout=0.0)
    long = settings(epochs=30, rate=0.02, batch=8)
    reached = trainer.train(master, lesson(settings=long), Machine(workers=1))[-1].dev_perplexity
    pupil = network(dropout=0.0)
    curve = trainer.train(pupil, lesson(alpha=1.0, teacher=master, settings=long), Machine(workers=workers))
    assert curve[0].dev_perplexity > 1.5 * reached
    assert curve[-1].dev_perplexity == pytest.approx(reached, rel=0.2)
