"""Intervals and p-values against sacreBLEU's PairedTest, and against a bootstrap written plainly."""

import random
from functools import partial

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest, Result

from seqkd.evaluation import metrics, significance
from seqkd.evaluation.significance import Scorer

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", ",", ".", "12", "°C"]


def _texts(lines: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(lines)]


def _changed(texts: list[str], share: float, seed: int) -> list[str]:
    """The texts with a share of their words drawn anew."""
    draw = random.Random(seed)
    changed = []
    for text in texts:
        changed.append(" ".join(draw.choice(WORDS) if draw.random() < share else word for word in text.split()))
    return changed


REFERENCES = _texts(80, seed=1)
SYSTEMS = {name: _changed(REFERENCES, share, seed=2) for name, share in (("weak", 0.5), ("near", 0.48), ("good", 0.2))}
SCORER = Scorer(REFERENCES, tokenizer="13a")


def _sample(metric: str, system: str) -> significance.Sample:
    return SCORER.sample(metric, SCORER.statistics(metric, SYSTEMS[system]))


def test_significance_has_the_bits_of_sacrebleus_paired_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    test = PairedTest(list(SYSTEMS.items()), {"bleu": BLEU(), "chrf": CHRF()}, [REFERENCES], test_type="bs")
    signatures, results = test()
    assert str(significance.SEED) in str(signatures["BLEU"])
    for metric, name in (("bleu", "BLEU"), ("chrf", "chrF2")):
        for system, theirs in zip(SYSTEMS, results[name], strict=True):
            assert isinstance(theirs, Result)
            mine = _sample(metric, system)
            assert (mine.score, mine.half_width()) == (theirs.score, theirs.ci)
            if system != "weak":
                assert significance.compare(mine, _sample(metric, "weak")).p == theirs.p_value


def test_significance_agrees_with_a_bootstrap_written_plainly() -> None:
    """Draw lines, score the drawn texts from scratch, and look at the middle 95 % and at the null distribution."""
    draw, good, weak = random.Random(3), [], []
    for _ in range(400):
        rows = draw.choices(range(len(REFERENCES)), k=len(REFERENCES))
        drawn = [REFERENCES[row] for row in rows]
        good.append(metrics.bleu([SYSTEMS["good"][row] for row in rows], drawn, tokenizer="13a").value)
        weak.append(metrics.bleu([SYSTEMS["weak"][row] for row in rows], drawn, tokenizer="13a").value)
    low, high = np.percentile(good, [2.5, 97.5])
    assert _sample("bleu", "good").half_width() == pytest.approx((high - low) / 2, rel=0.15)
    difference = significance.compare(_sample("bleu", "good"), _sample("bleu", "weak"))
    differences = np.subtract(good, weak)
    low, high = np.percentile(differences, [2.5, 97.5])
    assert difference.half_width == pytest.approx((high - low) / 2, rel=0.15)
    assert difference.value == pytest.approx(differences.mean(), rel=0.1)
    assert difference.p == 1 / 1001  # not one resample is as far from the mean as the mean is from zero
    assert not (np.abs(differences - differences.mean()) > difference.value).any()


def test_significance_of_a_system_against_itself_is_none() -> None:
    assert significance.compare(_sample("bleu", "good"), _sample("bleu", "good")) == (0, 0, 1)
    near = significance.compare(_sample("bleu", "near"), _sample("bleu", "weak"))
    assert near.p > 0.05


def test_scorer_gives_the_scores_of_the_metrics() -> None:
    for metric, score in (("bleu", partial(metrics.bleu, tokenizer="13a")), ("chrf", metrics.chrf)):
        statistics = SCORER.statistics(metric, SYSTEMS["good"])
        assert SCORER.score(metric, statistics) == score(SYSTEMS["good"], REFERENCES).value
        assert SCORER.score(metric, statistics[:9]) == score(SYSTEMS["good"][:9], REFERENCES[:9]).value
    first = SCORER.statistics("chrf", SYSTEMS["good"])[:1]
    assert SCORER.score("chrf", first) == metrics.sentence_chrf(SYSTEMS["good"][0], REFERENCES[0])


def test_scorer_refuses_another_number_of_lines() -> None:
    with pytest.raises(ValueError, match="3 texts against 80 references"):
        SCORER.statistics("bleu", ["a", "b", "c"])
