import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqkd.config.schema import Params
from seqkd.reporting import results
from seqkd.reporting.results import Results
from seqkd.utils.errors import InputError


def test_results_are_read_in_the_order_of_params_and_no_others(all_results: Results, params: Params) -> None:
    models = ["teacher", "teacher-near", "baseline", "words", "whole", "whole-near"]
    assert list(all_results.scores) == [*models, "prune-0.5", "prune-0.9"]
    assert list(all_results.curves) == models == params.models
    assert list(all_results.audits) == ["mode", "near"]
    assert all_results.scores["whole"].bleu(5) == 24.5
    assert all_results.curves["whole"][-1] == (5, 500, 0.001, 3.5, 44.0)


def test_results_without_a_row_are_refused_in_one_sentence(results_folder: Path, params: Params) -> None:
    (results_folder / "scores" / "whole.json").unlink()
    with pytest.raises(InputError, match=r"whole\.json: params\.yaml has a row whole without results; run dvc repro\."):
        results.scores(results_folder / "scores", params)
    (results_folder / "curves" / "words.csv").unlink()
    with pytest.raises(InputError, match=r"words\.csv: the curve of words is missing"):
        results.curves(results_folder / "curves", params)
    (results_folder / "audit" / "near.json").unlink()
    with pytest.raises(InputError, match="a row near without results"):
        results.audits(results_folder / "audit", params)


def test_results_with_a_broken_file_are_refused_by_file_and_key(results_folder: Path, params: Params) -> None:
    path = results_folder / "scores" / "whole.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "bytes": "many"}))
    with pytest.raises(InputError, match=r"whole\.json: bytes is 'many'"):
        results.scores(results_folder / "scores", params)
    path.write_text(json.dumps({**record, "beams": {"1": record["beams"]["1"]}}))
    with pytest.raises(InputError, match="no scores for beam 5"):
        results.scores(results_folder / "scores", params)
    for key in ("parameters", "remaining", "bytes"):
        path.write_text(json.dumps({**record, key: 0}))
        with pytest.raises(InputError, match=rf"whole\.json: {key} is 0; make it anew with dvc repro\.$"):
            results.scores(results_folder / "scores", params)
    path.write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        results.scores(results_folder / "scores", params)
    head = "epoch,updates,learning_rate,train_loss,dev_perplexity\n"
    broken = ["epoch\n1\n", head, f"{head}1,1,0.1,1,0\n", f"{head}1,1,0.1,1,-2\n", f"{head}1,{'9' * 300},0.1,1,2\n"]
    for text in [*broken, f"{head}1,1,0.1,1,1e308\n", f"{head}1,1,nan,1,2\n"]:
        (results_folder / "curves" / "whole.csv").write_text(text)
        with pytest.raises(InputError, match="not a curve"):
            results.curves(results_folder / "curves", params)


def test_gap_closed_is_a_fraction_of_the_gap_between_baseline_and_teacher(all_results: Results, params: Params) -> None:
    assert results.gap_closed(params, all_results.scores, model="whole-near", beam=1) == 0.8
    assert results.gap_closed(params, all_results.scores, model="whole-near", beam=5) == 0.65
    for model in ("teacher", "teacher-near", "baseline"):
        assert results.gap_closed(params, all_results.scores, model=model, beam=1) is None
    level = {**all_results.scores, "teacher": all_results.scores["baseline"]}
    assert results.gap_closed(params, level, model="whole", beam=1) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["certainty"]["whole"].pop("5"), "not everything about whole with beam 5; run"),
        (lambda record: record["certainty"]["whole"]["1"].pop("chrf"), "not everything about whole with beam 1; run"),
        (lambda record: record["faults"]["words"]["1"].pop("empty"), "not everything about words with beam 1; run"),
        (lambda record: record["faults"].pop("(human)"), "not everything about (human) with beam 0; run"),
        (lambda record: record["kinds"][0]["bleu"].pop("words"), "not everything about words with beam 1; run"),
        (lambda record: record["hard_lines"][0]["outputs"].pop("words"), "not everything about words with beam 1; run"),
        (lambda record: record.update(best="gone"), "the best student, gone, is no row or not in the ladder; run"),
        (lambda record: record.update(ladder=record["ladder"][:1]), "ladder is"),
        (lambda record: record["ladder"][0].pop("bytes"), "ladder.0.bytes is missing; make it anew with"),
    ],
)
def test_results_with_incomplete_evidence_are_refused(
    results_folder: Path, params: Params, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = results_folder / "evidence" / "evidence.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=rf"^{re.escape(f'{path}: {message}')}.* dvc repro\.$"):
        results.evidence(path.parent, params)


def test_results_without_evidence_are_refused(results_folder: Path, params: Params) -> None:
    (results_folder / "evidence" / "evidence.json").unlink()
    with pytest.raises(InputError, match=r"evidence\.json: no evidence yet; run dvc repro\.$"):
        results.evidence(results_folder / "evidence", params)
