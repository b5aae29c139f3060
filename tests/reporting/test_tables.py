import json
import math
from pathlib import Path

import pandas as pd
import pytest
from source_tree import ROOT

from seqkd.config import load
from seqkd.config.schema import Params
from seqkd.evaluation.measurements import Speed
from seqkd.reporting import sentences, table_text, tables
from seqkd.reporting.results import Results
from seqkd.utils.errors import InputError


def test_table_1_defines_a_method_by_its_text_its_loss_and_its_start(all_results: Results, params: Params) -> None:
    frame = tables.method_table(params, all_results.scores, all_results.evidence)
    assert frame[["model", "text", "loss", "start"]].to_numpy().tolist() == [
        ["teacher", "human", "NLL", "random"],
        ["teacher-near", "near", "NLL", "teacher"],
        ["baseline", "human", "NLL", "random"],
        ["words", "human", "0.5 NLL + 0.5 Word-KD", "random"],
        ["whole", "mode", "NLL", "random"],
        ["whole-near", "near", "0.75 NLL + 0.25 Word-KD", "whole"],
    ]


def test_table_1_has_gains_over_the_baseline_or_for_teachers_over_the_teacher(
    all_results: Results, params: Params
) -> None:
    frame = tables.method_table(params, all_results.scores, all_results.evidence).set_index("model")
    assert frame["gain_1"].fillna(0).tolist() == [0, 1.5, 0, 1.0, 6.0, 8.0]
    assert frame["gain_5"].fillna(0).tolist() == [0, 0.25, 0, 0.5, 4.5, 6.5]
    assert frame["gain_1"].isna().tolist() == [True, False, True, False, False, False]
    assert frame["closed_1"].dropna().to_dict() == {"words": 0.1, "whole": 0.6, "whole-near": 0.8}


def test_table_1_fits_a_terminal_and_ends_with_its_signatures(all_results: Results, params: Params) -> None:
    text = table_text.to_text(tables.method_table(params, all_results.scores, all_results.evidence))
    assert max(map(len, text.splitlines())) <= 120
    assert all(model in text for model in params.models)
    bootstrap = "paired bootstrap, 1,000 resamples of 4 lines, seed 12345"
    assert text.splitlines()[-3:] == [
        "BLEU: sacreBLEU nrefs:1|tok:13a",
        "chrF: sacreBLEU nrefs:1|nc:6",
        f"±: half the 95 % interval; * p < 0.05, ** p < 0.01: {bootstrap}",
    ]
    narrow = table_text.to_text(tables.method_table(params, all_results.scores, all_results.evidence), width=90)
    assert "chrF" not in narrow.split("\n\n")[0]
    assert "+8.0" in narrow


def test_tables_name_the_tokenizer_that_their_own_scores_have(all_results: Results, params: Params) -> None:
    signature = "nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp|version:2.6.0"
    scores = {model: own.model_copy(update={"signature_bleu": signature}) for model, own in all_results.scores.items()}
    speeds = [Speed(model="teacher", beam=1, words_per_second=400.0, measured="here, today")]
    frames = [table(params, scores, all_results.evidence) for table in (tables.method_table, tables.pruning_table)]
    for frame in [*frames, tables.speed_table(speeds, scores)]:
        for text in (
            table_text.to_text(frame),
            table_text.to_markdown(frame),
            "\n".join(table_text.to_page(frame)["notes"]),
        ):
            assert f"BLEU: sacreBLEU {signature}" in text
            assert "13a" not in text


def test_table_1_as_markdown(all_results: Results, params: Params) -> None:
    lines = table_text.to_markdown(tables.method_table(params, all_results.scores, all_results.evidence)).splitlines()
    headings, cells = ([cell.strip() for cell in lines[number].split("|")[1:-1]] for number in (0, 7))
    assert headings[:8] == ["model", "text", "loss", "start", "size", "BLEU K=1", "gain K=1", "gap K=1"]
    assert cells[:8] == [
        "whole-near",
        "near",
        "0.75 NLL + 0.25 Word-KD",
        "whole",
        "1.00M",
        "26.0 ±1.2",
        "+8.0**",
        "80%",
    ]
    assert cells[8:] == ["26.5 ±1.2", "+6.5**", "65%", "46.0 ±1.2", "46.5 ±1.2", "12.3", "6.2%"]
    assert "- BLEU: sacreBLEU nrefs:1|tok:13a" in lines


def test_table_2_has_ratios_to_the_teachers_largest_beam(all_results: Results) -> None:
    rates = [("teacher", 1, 400.0), ("teacher", 5, 100.0), ("whole", 1, 1500.0)]
    speeds = [
        Speed(model=name, beam=beam, words_per_second=rate, measured="a fast one, today") for name, beam, rate in rates
    ]
    frame = tables.speed_table(speeds, all_results.scores)
    assert table_text.notes(frame).count("measured on a fast one, today") == 1
    frame = frame.set_index("model")
    assert frame["ratio_1"].tolist() == [4.0, 15.0]
    assert frame.loc["teacher", "ratio_5"] == 1.0
    assert frame["ratio_5"].isna().tolist() == [False, True]
    assert frame["bleu_1"].tolist() == [28.0, 24.0]
    with pytest.raises(InputError, match="the teacher"):
        tables.speed_table(speeds[2:], all_results.scores)


def test_table_3_begins_with_the_unpruned_model(all_results: Results, params: Params) -> None:
    frame = tables.pruning_table(params, all_results.scores, all_results.evidence)
    assert frame["model"].tolist() == ["whole-near", "prune-0.5", "prune-0.9"]
    assert frame["pruned"].tolist() == [0.0, 0.5, 0.9]
    assert frame["remaining"].tolist() == [1_000_000, 500_000, 100_000]
    assert frame["bytes"].tolist() == [4_000_100, 2_000_100, 400_100]
    assert frame["bleu_5"].tolist() == [26.5, 26.0, 20.5]


def test_table_is_read_and_shown_as_it_was_written(tmp_path: Path, all_results: Results, params: Params) -> None:
    first, third = (
        tables.method_table(params, all_results.scores, all_results.evidence),
        tables.pruning_table(params, all_results.scores, all_results.evidence),
    )
    for name, frame in (("table1", first), ("table3", third)):
        tables.write(frame, tmp_path, name)
        again = tables.read(tmp_path / f"{name}.csv")
        assert table_text.to_text(again) == table_text.to_text(frame)
        assert (tmp_path / f"{name}.md").read_text() == table_text.to_markdown(again) == table_text.to_markdown(frame)
    with pytest.raises(InputError, match="no such table yet"):
        tables.read(tmp_path / "table2.csv")


def test_table_keeps_any_name_of_a_row(tmp_path: Path) -> None:
    names = ["NA", "nan", "None", "null", "007", "1e5", "true"]
    frame = pd.DataFrame({"model": names, "bleu_1": [1.0] * len(names)})
    tables.write(frame, tmp_path, "table")
    again = tables.read(tmp_path / "table.csv")
    assert again["model"].tolist() == names
    assert (tmp_path / "table.md").read_text() == table_text.to_markdown(again)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "model\na\n",
        "model,bleu_1\na,high\n",
        "model,bleu_1\na,True\n",
        "model,bleu_1\n,1\n",
        "model,bleu_1\n",
        "model,bleu_1\na,1,2,3\na\n",
    ],
)
def test_table_that_was_edited_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError, match=r"table\.csv: not a table that seqkd wrote; make it anew with dvc repro\.$"):
        tables.read(tmp_path / "table.csv")


def test_table_rounds_a_number_only_once(tmp_path: Path) -> None:
    """22.150036931 is 22.2; by way of 22.15, which no float is, it would be shown as 22.1."""
    frame = pd.DataFrame({"model": ["teacher"], "bleu": [22.150036931631767]})
    tables.write(frame, tmp_path, "table")
    assert "22.2" in (tmp_path / "table.md").read_text()
    assert table_text.to_markdown(tables.read(tmp_path / "table.csv")) == (tmp_path / "table.md").read_text()


def test_dvc_metrics_have_two_levels_and_two_decimals(all_results: Results, params: Params) -> None:
    metrics = tables.dvc_metrics(params, all_results.scores, all_results.evidence)
    assert list(metrics) == [*params.models, "prune-0.5", "prune-0.9", "(best student)"]
    assert metrics["(best student)"] == {"p_1": 0.001, "p_5": 0.001}
    assert metrics["teacher-near"] == {"bleu_1": 29.5, "bleu_5": 30.25, "perplexity": 12.35}
    assert metrics["prune-0.9"] == {"bleu_1": 20.0, "bleu_5": 20.5}


def test_dvc_metrics_of_the_projects_own_rows_have_at_most_forty_leaves() -> None:
    own = load.params(ROOT / "params.yaml")
    beams = len(own.evaluate.beams)
    main_sizes = [model for model in own.models if own.network_of(model) in (own.teacher, own.student)]
    assert len(main_sizes) + (len(own.models) + len(own.prune.ratios) + 1) * beams <= 40
    written = json.loads((ROOT / "reports" / "metrics.json").read_text(encoding="utf-8"))
    assert sum(map(len, written.values())) <= 40


def test_headline_names_the_best_student_and_the_gap_it_closes(all_results: Results, params: Params) -> None:
    first, second = sentences.headline(tables.method_table(params, all_results.scores, all_results.evidence))
    assert first == (
        "whole-near takes the student's BLEU, greedy from 18.0 to 26.0 (80% of the way to the teacher's 28.0); "
        "beam 5 from 20.0 to 26.5 (65% of the way to the teacher's 30.0)."
    )
    assert second.startswith("Its perplexity of the references goes from 12.3 to 12.3, ")
    level = {**all_results.scores, "teacher": all_results.scores["baseline"]}
    assert "no gap" in sentences.headline(tables.method_table(params, level, all_results.evidence))[0]


def test_table_for_the_page_knows_by_which_value_a_cell_sorts() -> None:
    frame = pd.DataFrame(
        [{"model": "a", "bleu_1": 7.04, "bleu_ci_1": 1.0}, {"model": "b", "bleu_1": None, "bleu_ci_1": None}]
    )
    table = table_text.to_page(frame)
    assert [head["text"] for head in table["head"]] == ["model", "BLEU"]
    assert table["rows"][0][1] == {"text": "7.0 ±1.0", "value": "7.04"}
    assert table["rows"][1][1] == {"text": "", "value": ""}


def test_table_1_holds_the_evidences_numbers(all_results: Results, params: Params) -> None:
    frame = tables.method_table(params, all_results.scores, all_results.evidence)
    for row in frame.to_dict("records"):
        for beam in (1, 5):
            for metric in ("bleu", "chrf"):
                own = all_results.evidence.certainty[row["model"]][str(beam)][metric]
                assert row[f"{metric}_ci_{beam}"] == own.half_width
                p = {name: row[f"{metric}_p_{name}_{beam}"] for name in tables.COMPARED}
                assert {name: value for name, value in p.items() if not math.isnan(value)} == own.p
    assert frame["gain_p_1"].isna().tolist() == [True, False, True, False, False, False]


def test_stars_stand_for_p_values() -> None:
    assert [table_text.stars(p) for p in (0.0009, 0.01, 0.049, 0.05, float("nan"))] == ["**", "*", "*", "", ""]


def test_certainty_is_told_in_sentences(all_results: Results, params: Params) -> None:
    frame = tables.method_table(params, all_results.scores, all_results.evidence)
    assert sentences.certainty(frame) == [
        "BLEU is sure to ±1.2 (95 % intervals; bootstrap, 1,000 resamples of 4 lines, seed 12345).",
        "Better than the baseline (paired bootstrap, p < 0.01): "
        "greedy: all students except words; beam 5: all students.",
        "Not surely worse than the best student, whole-near (p ≥ 0.05): none (greedy and beam 5).",
    ]
    few = frame[frame["model"].isin(["teacher", "baseline"])]
    assert len(sentences.certainty(few)) == 1


def test_ladder_table_has_speed_where_it_was_measured(all_results: Results) -> None:
    speeds = [Speed(model="teacher", beam=5, words_per_second=400.0, measured="mine")]
    frame = tables.ladder_table(all_results.evidence, speeds)
    assert frame["model"].tolist() == ["teacher", "whole-near", "whole-near", "prune-0.5", "prune-0.5 in int8"]
    assert frame["words_per_second"].fillna(0).tolist() == [400, 0, 0, 0, 0]
    lines = table_text.to_markdown(frame).splitlines()
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == [
        "best student", "whole-near", "beam 5", "26.5 ±1.2", "-1.5 ±0.5*", "", "1.00 MB",
    ]  # fmt: skip


def test_fault_table_begins_with_the_references(tmp_path: Path, all_results: Results, params: Params) -> None:
    frame = tables.fault_table(params, all_results.evidence)
    assert frame["model"].tolist()[:3] == ["(human)", "teacher", "teacher"]
    assert len(frame) == 1 + 2 * (len(params.models) + 2)
    assert frame["hard"].tolist()[1:] == [1] * (len(frame) - 1)
    tables.write(frame, tmp_path, "faults")
    assert table_text.to_markdown(tables.read(tmp_path / "faults.csv")) == (tmp_path / "faults.md").read_text()
