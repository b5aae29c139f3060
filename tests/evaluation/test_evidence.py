"""The evidence of two models and four lines, small enough to check by hand."""

from collections import Counter
from pathlib import Path

import pytest

from seqkd.config.schema import Params
from seqkd.evaluation import evidence, metrics, significance, translations
from seqkd.evaluation.breakdown import Kind
from seqkd.evaluation.evidence import Step
from seqkd.evaluation.significance import Scorer
from seqkd.evaluation.translations import Output
from seqkd.utils.errors import InputError

SOURCES = ["one two", "three 3", "four", "five six seven"]
REFERENCES = ["eins zwei drei vier", "drei 3 und noch", "vier ist eine Zahl", "fünf sechs sieben acht"]
TEXTS = {
    "teacher": REFERENCES,
    "baseline": ["eins zwei", "drei 4 und noch", "", "fünf sechs sieben"],
    "whole": ["eins zwei drei vier", "drei 4 und noch", "vier vier vier", "fünf sechs sieben"],
}
ROWS = [
    Output(model, beam, texts, [model == "baseline"] + [False] * 3) for model, texts in TEXTS.items() for beam in (1, 5)
]
SCORER = Scorer(REFERENCES, tokenizer="13a")


@pytest.fixture(scope="module")
def measured() -> evidence.AllMeasured:
    return evidence.measure(ROWS, SCORER, processes=1)


def test_evidence_does_not_depend_on_the_number_of_processes(measured: evidence.AllMeasured) -> None:
    again = evidence.measure(ROWS, SCORER, processes=2)
    assert evidence.certainties(again, "whole") == evidence.certainties(measured, "whole")


def test_certainties_compare_every_model_with_the_others_by_role(measured: evidence.AllMeasured) -> None:
    found = evidence.certainties(measured, "whole")
    assert {model: set(beams["5"]["chrf"].p) for model, beams in found.items()} == {
        "teacher": {"baseline", "best"},
        "baseline": {"teacher", "best"},
        "whole": {"baseline", "teacher"},
    }
    assert found["whole"]["1"]["bleu"].score == metrics.bleu(TEXTS["whole"], REFERENCES, tokenizer="13a").value
    whole, teacher = (measured[model][1].samples["bleu"] for model in ("whole", "teacher"))
    assert found["whole"]["1"]["bleu"].p["teacher"] == significance.compare(whole, teacher).p


def test_best_student_is_no_baseline_and_of_the_students_size(measured: evidence.AllMeasured, params: Params) -> None:
    scores = dict.fromkeys(params.models, measured["baseline"]) | {"whole": measured["whole"]}
    assert evidence.best_student(params, scores | {"teacher-near": measured["teacher"]}) == "whole"
    alone = params.model_copy(update={"distill": {}, "finetune": {}})
    assert evidence.best_student(alone, scores) == "baseline"


def test_kind_scores_are_those_of_the_lines_alone(measured: evidence.AllMeasured) -> None:
    (scores,) = evidence.kind_scores([Kind("words", "few", [0, 2])], measured, SCORER)
    assert scores.lines == 2
    assert scores.bleu["teacher"] == pytest.approx(100)
    texts, references = ([lines[0], lines[2]] for lines in (TEXTS["whole"], REFERENCES))
    expected = metrics.bleu(texts, references, tokenizer="13a").value
    assert scores.bleu["whole"] == expected


def test_fault_counts_stand_beside_those_of_the_references() -> None:
    counts = evidence.fault_counts(ROWS, SOURCES, REFERENCES)
    assert set(counts[evidence.HUMAN]["0"].values()) == {0}
    assert +Counter(counts["baseline"]["1"]) == {"numbers": 1, "empty": 1, "at_limit": 1}
    assert counts["whole"]["5"] == {**counts["baseline"]["5"], "repeated": 1, "empty": 0, "at_limit": 0}


def test_ladder_tells_each_step_from_the_rung_above(measured: evidence.AllMeasured, params: Params) -> None:
    steps = [Step("teacher", "teacher", 5), Step("student", "whole", 5), Step("student", "whole", 1)]
    first, second, third = evidence.ladder(steps, measured, {"teacher": 400, "whole": 100})
    assert first.bleu == pytest.approx(100)
    assert (first.step_value, first.bytes) == (None, 400)
    assert second.step_value == second.bleu - first.bleu
    assert (third.step_value, third.step_half_width, third.step_p) == (0, 0, 1)


def test_ladder_goes_from_the_teachers_beam_to_the_lightest_pruned_student_in_int8(params: Params) -> None:
    assert [(step.model, step.beam) for step in evidence.rungs(params, "whole", "prune-0.5 in int8")] == [
        ("teacher", 5), ("teacher", 1), ("whole", 5), ("whole", 1), ("prune-0.5", 1), ("prune-0.5 in int8", 1),
    ]  # fmt: skip
    plain = params.model_copy(
        update={
            "prune": params.prune.model_copy(update={"ratios": []}),
            "evaluate": params.evaluate.model_copy(update={"beams": [1]}),
        }
    )
    assert [step.model for step in evidence.rungs(plain, "whole", "whole in int8")] == [
        "teacher", "whole", "whole in int8",
    ]  # fmt: skip


def test_translations_are_refused_where_they_are_missing_or_of_another_set(tmp_path: Path) -> None:
    path = tmp_path / "m" / "beam1.txt"
    with_message = {None: "m has no translations yet", b"one\n": "1 lines for a test set of 2", b"\xff\n": "not UTF-8"}
    for content, message in with_message.items():
        if content is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            translations.read(tmp_path, "m", beam=1, lines=2)
    path.write_text("one\u2028two\x0bthree\n\n")
    assert translations.read(tmp_path, "m", beam=1, lines=2) == ["one\u2028two\x0bthree", ""]
