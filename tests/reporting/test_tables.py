from pathlib import Path

import pandas as pd
import pytest
from source_tree import ROOT

from seqkd.config import schema
from seqkd.config.schema import Params
from seqkd.reporting import results, tables
from seqkd.reporting.results import Results
from seqkd.utils.errors import InputError


def test_a_method_is_its_text_its_loss_and_its_start(found: Results, params: Params) -> None:
    frame = tables.methods(params, found.scores)
    assert frame[["model", "text", "loss", "start"]].to_numpy().tolist() == [
        ["teacher", "human", "NLL", "random"],
        ["teacher-near", "near", "NLL", "teacher"],
        ["baseline", "human", "NLL", "random"],
        ["words", "human", "0.5 NLL + 0.5 Word-KD", "random"],
        ["whole", "mode", "NLL", "random"],
        ["whole-near", "near", "0.75 NLL + 0.25 Word-KD", "whole"],
    ]


def test_students_gain_over_the_baseline_and_teachers_over_the_teacher(found: Results, params: Params) -> None:
    frame = tables.methods(params, found.scores).set_index("model")
    assert frame["gain_1"].fillna(0).tolist() == [0, 1.5, 0, 1.0, 6.0, 8.0]
    assert frame["gain_5"].fillna(0).tolist() == [0, 0.25, 0, 0.5, 4.5, 6.5]
    assert frame["gain_1"].isna().tolist() == [True, False, True, False, False, False]
    assert frame["closed_1"].dropna().to_dict() == {"words": 0.1, "whole": 0.6, "whole-near": 0.8}


def test_table_1_fits_a_terminal_and_ends_with_its_signatures(found: Results, params: Params) -> None:
    text = tables.plain(tables.methods(params, found.scores))
    assert max(map(len, text.splitlines())) <= 120
    assert all(model in text for model in params.models)
    assert text.splitlines()[-2:] == ["BLEU: sacreBLEU nrefs:1|tok:13a", "chrF: sacreBLEU nrefs:1|nc:6"]
    narrow = tables.plain(tables.methods(params, found.scores), width=90)
    assert "chrF" not in narrow.split("\n\n")[0]
    assert "+8.0" in narrow


def test_table_1_as_markdown(found: Results, params: Params) -> None:
    lines = tables.markdown(tables.methods(params, found.scores)).splitlines()
    heads, cells = ([cell.strip() for cell in lines[place].split("|")[1:-1]] for place in (0, 7))
    assert heads[:8] == ["model", "text", "loss", "start", "size", "BLEU K=1", "gain K=1", "gap K=1"]
    assert cells[:8] == ["whole-near", "near", "0.75 NLL + 0.25 Word-KD", "whole", "1.00M", "26.0", "+8.0", "80%"]
    assert cells[8:] == ["26.5", "+6.5", "65%", "46.0", "46.5", "12.3", "6.2%"]
    assert "- BLEU: sacreBLEU nrefs:1|tok:13a" in lines


def test_table_2_is_in_ratios_to_the_teachers_widest_beam(found: Results) -> None:
    told: dict[str, object] = {"measured": "a fast one, today", "rounds": 3}
    rates = [("teacher", 1, 400.0), ("teacher", 5, 100.0), ("whole", 1, 1500.0)]
    speeds = results.speeds(
        {"model": name, "beam": beam, "words_per_second": speed} | told for name, beam, speed in rates
    )
    frame = tables.speed_table(speeds, found.scores)
    assert tables.notes(frame).count("measured on a fast one, today") == 1
    frame = frame.set_index("model")
    assert frame["ratio_1"].tolist() == [4.0, 15.0]
    assert frame.loc["teacher", "ratio_5"] == 1.0
    assert frame["ratio_5"].isna().tolist() == [False, True]
    assert frame["bleu_1"].tolist() == [28.0, 24.0]
    with pytest.raises(InputError, match="the teacher"):
        tables.speed_table(speeds[2:], found.scores)


def test_table_3_begins_with_the_whole_model(found: Results, params: Params) -> None:
    frame = tables.pruning(params, found.scores)
    assert frame["model"].tolist() == ["whole-near", "prune-0.5", "prune-0.9"]
    assert frame["pruned"].tolist() == [0.0, 0.5, 0.9]
    assert frame["remaining"].tolist() == [1_000_000, 500_000, 100_000]
    assert frame["bytes"].tolist() == [4_000_100, 2_000_100, 400_100]
    assert frame["bleu_5"].tolist() == [26.5, 26.0, 20.5]


def test_what_is_written_is_read_and_shown_alike(tmp_path: Path, found: Results, params: Params) -> None:
    first, third = tables.methods(params, found.scores), tables.pruning(params, found.scores)
    for name, frame in (("table1", first), ("table3", third)):
        tables.write(frame, tmp_path, name)
        again = tables.read(tmp_path / f"{name}.csv")
        assert tables.plain(again) == tables.plain(frame)
        assert (tmp_path / f"{name}.md").read_text() == tables.markdown(again) == tables.markdown(frame)
    with pytest.raises(InputError, match="no such table yet"):
        tables.read(tmp_path / "table2.csv")


def test_any_name_of_a_row_is_read_as_it_was_written(tmp_path: Path) -> None:
    names = ["NA", "nan", "None", "null", "007", "1e5", "true"]
    frame = pd.DataFrame({"model": names, "bleu_1": [1.0] * len(names)})
    tables.write(frame, tmp_path, "table")
    again = tables.read(tmp_path / "table.csv")
    assert again["model"].tolist() == names
    assert (tmp_path / "table.md").read_text() == tables.markdown(again)


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
def test_a_table_that_was_edited_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError, match=r"table\.csv: not a table that seqkd wrote; make it anew with dvc repro\.$"):
        tables.read(tmp_path / "table.csv")


def test_a_number_is_not_rounded_on_its_way_to_being_rounded(tmp_path: Path) -> None:
    """22.150036931 is 22.2; by way of 22.15, which no float is, it would be shown as 22.1."""
    frame = pd.DataFrame({"model": ["teacher"], "bleu": [22.150036931631767]})
    tables.write(frame, tmp_path, "table")
    assert "22.2" in (tmp_path / "table.md").read_text()
    assert tables.markdown(tables.read(tmp_path / "table.csv")) == (tmp_path / "table.md").read_text()


def test_metrics_have_two_levels_and_two_decimals(found: Results, params: Params) -> None:
    metrics = tables.metrics(params, found.scores)
    assert list(metrics) == [*params.models, "prune-0.5", "prune-0.9"]
    assert metrics["teacher-near"] == {"bleu_1": 29.5, "bleu_5": 30.25, "perplexity": 12.35}
    assert metrics["prune-0.9"] == {"bleu_1": 20.0, "bleu_5": 20.5}


def test_metrics_of_the_projects_own_rows_have_at_most_forty_leaves() -> None:
    own = schema.load_params(ROOT / "params.yaml")
    assert len(own.models) * (len(own.evaluate.beams) + 1) + len(own.prune.ratios) * len(own.evaluate.beams) <= 40


def test_the_headline_names_the_best_student_and_the_gap_it_closes(found: Results, params: Params) -> None:
    first, second = tables.headline(tables.methods(params, found.scores))
    assert first == (
        "whole-near takes the student's BLEU, greedy from 18.0 to 26.0 (80% of the way to the teacher's 28.0); "
        "beam 5 from 20.0 to 26.5 (65% of the way to the teacher's 30.0)."
    )
    assert second.startswith("Its perplexity of the human targets goes from 12.3 to 12.3, ")
    level = {**found.scores, "teacher": found.scores["baseline"]}
    assert "no gap" in tables.headline(tables.methods(params, level))[0]


def test_html_cells_are_escaped() -> None:
    text = tables.page(pd.DataFrame([{"model": "<b>", "bleu_1": 7.0}]))
    assert '<td class="word">&lt;b&gt;</td><td>7.0</td>' in text
