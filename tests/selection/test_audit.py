from pathlib import Path

from seqkd.config.schema import SelectSettings
from seqkd.data.nbest import Hypothesis
from seqkd.evaluation import measurements
from seqkd.selection import audit
from seqkd.selection.audit import Audit, LengthRatios, SelectionStats

SCORE = SelectSettings(nbest="k5", metric="score")


def _one_line() -> SelectionStats:
    """A line whose first hypothesis, cut off and with an unknown piece, was chosen before an empty one."""
    stats = SelectionStats()
    stats.count_line([Hypothesis((1, 5), -1.0, False), Hypothesis((), -2.0, True)], ["⁇ a", ""], 0)
    stats.count_ngrams([2, 4, 0, 0, 0, 0, 2, 1, 0, 0], [2, 4, 0, 0, 0, 0, 2, 1, 0, 0])
    return stats


def test_audit_counts_faults_among_the_chosen_and_among_all() -> None:
    result = audit.summarize(_one_line(), "row", SCORE, tokenizer="13a")
    assert result.chosen == {"empty": 0.0, "truncated": 1.0, "unknown": 1.0}
    assert result.all == {"empty": 0.5, "truncated": 0.5, "unknown": 0.5}
    assert result.no_overlap == 1.0
    assert result.length_ratio == LengthRatios(chosen=0.5, first=0.5)
    assert result.ranks == [1, 0]


def test_audit_of_the_sum_of_parts_counts_every_line() -> None:
    total = SelectionStats(ties=1)
    for _ in range(3):
        total.add(_one_line())
    result = audit.summarize(total, "row", SCORE, tokenizer="13a")
    assert result.lines == 3
    assert result.hypotheses == 6
    assert result.ranks == [3, 0]
    assert result.ties == 0.3333
    assert result.length_ratio == LengthRatios(chosen=0.5, first=0.5)


def test_audit_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = audit.summarize(_one_line(), "row", SCORE, tokenizer="13a")
    measurements.write(tmp_path / "row.json", result)
    assert measurements.read(Audit, tmp_path / "row.json") == result


def test_audit_is_described_in_two_lines_with_ranks_from_one() -> None:
    assert audit.describe(audit.summarize(_one_line(), "row", SCORE, tokenizer="13a")) == (
        "row: 1 lines, 2.0 hypotheses each; mean rank 1.0, the first hypothesis in 100%, ties in 0.0%\n"
        "BLEU against the reference: first hypotheses 0.00, chosen 0.00; length ratio 0.500; "
        "empty 0.00%, truncated 100.00%, unknown 100.00%"
    )
