import json
from pathlib import Path

from seqkd.config.schema import SelectSettings
from seqkd.data.nbest import Hypothesis
from seqkd.selection import audit
from seqkd.selection.audit import SelectionStats

SCORE = SelectSettings(nbest="k5", metric="score")


def _one() -> SelectionStats:
    """A line whose first hypothesis, cut off and with an unknown piece, was chosen before an empty one."""
    tally = SelectionStats()
    tally.line([Hypothesis((1, 5), -1.0, False), Hypothesis((), -2.0, True)], ["⁇ a", ""], 0)
    tally.compared([2, 4, 0, 0, 0, 0, 2, 1, 0, 0], [2, 4, 0, 0, 0, 0, 2, 1, 0, 0])
    return tally


def test_faults_are_counted_among_the_chosen_and_among_all() -> None:
    found = audit.record(_one(), "row", SCORE)
    assert found["chosen"] == {"empty": 0.0, "truncated": 1.0, "unknown": 1.0}
    assert found["all"] == {"empty": 0.5, "truncated": 0.5, "unknown": 0.5}
    assert found["no_overlap"] == 1.0
    assert found["length_ratio"] == {"chosen": 0.5, "first": 0.5}
    assert found["ranks"] == [1, 0]


def test_the_sum_of_parts_counts_every_line() -> None:
    whole = SelectionStats(ties=1)
    for _ in range(3):
        whole.add(_one())
    found = audit.record(whole, "row", SCORE)
    assert found["lines"] == 3
    assert found["hypotheses"] == 6
    assert found["ranks"] == [3, 0]
    assert found["ties"] == 0.3333
    assert found["length_ratio"]["chosen"] == 0.5


def test_an_audit_is_written_with_sorted_keys_and_no_time(tmp_path: Path) -> None:
    audit.write(tmp_path / "row.json", {"b": 1, "a": 2})
    assert (tmp_path / "row.json").read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
    assert json.loads((tmp_path / "row.json").read_text()) == {"a": 2, "b": 1}
