import json
from pathlib import Path

import pytest

from seqkd.config.schema import Params
from seqkd.reporting import results
from seqkd.reporting.results import Results
from seqkd.utils.errors import InputError


def test_the_rows_of_params_are_read_in_their_order_and_no_other(found: Results, params: Params) -> None:
    models = ["teacher", "teacher-near", "baseline", "words", "whole", "whole-near"]
    assert list(found.scores) == [*models, "prune-0.5", "prune-0.9"]
    assert list(found.curves) == models == params.models
    assert list(found.audits) == ["mode", "near"]
    assert found.scores["whole"].bleu(5) == 24.5
    assert found.curves["whole"][-1] == (5, 500, 0.001, 3.5, 44.0)


def test_a_missing_row_is_one_sentence(measured: Path, params: Params) -> None:
    (measured / "scores" / "whole.json").unlink()
    with pytest.raises(InputError, match=r"whole\.json: params\.yaml has a row whole without results; run dvc repro\."):
        results.scores(measured / "scores", params)
    (measured / "curves" / "words.csv").unlink()
    with pytest.raises(InputError, match=r"words\.csv: the curve of words is missing"):
        results.curves(measured / "curves", params)
    (measured / "audit" / "near.json").unlink()
    with pytest.raises(InputError, match="a row near without results"):
        results.audits(measured / "audit", params)


def test_a_broken_record_is_refused_by_its_key(measured: Path, params: Params) -> None:
    path = measured / "scores" / "whole.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "bytes": "many"}))
    with pytest.raises(InputError, match=r"whole\.json: bytes is 'many'"):
        results.scores(measured / "scores", params)
    path.write_text(json.dumps({**record, "beams": {"1": record["beams"]["1"]}}))
    with pytest.raises(InputError, match="no scores for beam 5"):
        results.scores(measured / "scores", params)
    for key in ("parameters", "remaining", "bytes"):
        path.write_text(json.dumps({**record, key: 0}))
        with pytest.raises(InputError, match=rf"whole\.json: {key} is 0; make it anew with dvc repro\.$"):
            results.scores(measured / "scores", params)
    path.write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        results.scores(measured / "scores", params)
    head = "epoch,updates,learning_rate,train_loss,dev_perplexity\n"
    broken = ["epoch\n1\n", head, f"{head}1,1,0.1,1,0\n", f"{head}1,1,0.1,1,-2\n", f"{head}1,{'9' * 300},0.1,1,2\n"]
    for text in [*broken, f"{head}1,1,0.1,1,1e308\n", f"{head}1,1,nan,1,2\n"]:
        (measured / "curves" / "whole.csv").write_text(text)
        with pytest.raises(InputError, match="not a curve"):
            results.curves(measured / "curves", params)


def test_the_closed_share_is_of_the_gap_between_baseline_and_teacher(found: Results, params: Params) -> None:
    assert results.closed(params, found.scores, model="whole-near", beam=1) == 0.8
    assert results.closed(params, found.scores, model="whole-near", beam=5) == 0.65
    for model in ("teacher", "teacher-near", "baseline"):
        assert results.closed(params, found.scores, model=model, beam=1) is None
    level = {**found.scores, "teacher": found.scores["baseline"]}
    assert results.closed(params, level, model="whole", beam=1) is None
