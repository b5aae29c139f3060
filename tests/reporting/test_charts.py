import csv
import re
from html import unescape
from pathlib import Path

import pytest

from seqkd.config.schema import DistillSettings, Params
from seqkd.evaluation.measurements import Speed
from seqkd.reporting import charts, vega
from seqkd.reporting.results import Results

WORDS_PER_SECOND = {"teacher": (1900, 420), "baseline": (7400, 2300), "whole": (7500, 2280), "prune-0.9": (7450, 2290)}
SPEEDS = [
    Speed(model=model, beam=beam, words_per_second=value, measured="here")
    for model, values in WORDS_PER_SECOND.items()
    for beam, value in zip((1, 5), values, strict=True)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("charts")


@pytest.fixture
def drawn(folder: Path, all_results: Results, params: Params) -> Path:
    if not (folder / "speed.svg").exists():
        charts.write(params, all_results, folder)
        charts.write_speed(SPEEDS, all_results.scores, folder)
    return folder


def _words(svg: Path) -> set[str]:
    return set(map(unescape, re.findall(r">([^<>\n]+)</text>", svg.read_text())))


def _said(svg: Path) -> list[str]:
    return list(map(unescape, re.findall(r'aria-label="([^"]*)" role="graphics-symbol"', svg.read_text())))


def test_charts_of_the_same_numbers_have_the_same_bytes(
    drawn: Path, tmp_path: Path, all_results: Results, params: Params
) -> None:
    again = tmp_path / "again"
    charts.write(params, all_results, again)
    charts.write_speed(SPEEDS, all_results.scores, again)
    files = {path.name: path.read_bytes() for path in drawn.iterdir()}
    assert files == {path.name: path.read_bytes() for path in again.iterdir()}
    drawings = {"beams", "curves", "kinds", "ladder", "pruning", "ranks", "size", "speed"}
    assert set(files) == {f"{name}.svg" for name in drawings} | {"bleu.csv", "curves.csv", "kinds.csv", "ranks.csv"}


def test_charts_name_every_row(drawn: Path, params: Params) -> None:
    assert set(params.models) <= _words(drawn / "beams.svg")
    assert set(params.models) <= _words(drawn / "curves.svg")
    assert {*params.models, "prune-0.5", "prune-0.9"} <= _words(drawn / "size.svg")
    measured = {f"{model}, {beam}" for model in WORDS_PER_SECOND for beam in ("greedy", "beam 5")}
    assert measured <= _words(drawn / "speed.svg")
    assert {"1. teacher, beam 5", "5. weights in int8, greedy"} <= _words(drawn / "ladder.svg")


def test_charts_say_the_numbers_of_every_mark(drawn: Path, all_results: Results, params: Params) -> None:
    said = _said(drawn / "beams.svg")
    for model in params.models:
        for beam, name in ((1, "greedy"), (5, "beam 5")):
            own = all_results.evidence.certainty[model][str(beam)]["bleu"]
            assert f"{model}, {name}: BLEU {own.score:.1f} ± {own.half_width:.1f}" in said
    assert "teacher, in the source: a number, 1 lines: BLEU 30.0" in _said(drawn / "kinds.svg")
    assert "near, rank 1: 50.0% of the lines" in _said(drawn / "ranks.svg")
    assert "teacher, epoch 5: perplexity 48.0" in _said(drawn / "curves.svg")
    assert "teacher, beam 5: 420 words per second, BLEU 30.0" in _said(drawn / "speed.svg")
    assert not [text for text in said if "mode" in text]


def test_charts_load_nothing_and_take_the_pages_colors(drawn: Path) -> None:
    for path in drawn.glob("*.svg"):
        text = path.read_text().replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")
        assert not re.search(r"https?:|<script|<image|href=", text), path
        assert "var(--ink,#333)" in text
        assert "var(--paper,#fff)" in text


def test_chart_of_ranks_says_so_where_the_settings_have_no_selection(tmp_path: Path) -> None:
    vega.save(charts.ranks_chart({}), tmp_path / "ranks.svg")
    assert "No row of select: nothing was chosen" in _words(tmp_path / "ranks.svg")


def test_separate_keeps_order_and_gap_and_moves_no_more_than_it_must() -> None:
    assert vega.separate([0, 100, 50], 10) == [0, 100, 50]
    assert vega.separate([50, 50], 10) == [45, 55]
    assert vega.separate([0, 1, 2, 100], 10) == [-9, 1, 11, 100]
    assert vega.separate([], 10) == []


def test_model_kind_is_what_a_model_is(params: Params) -> None:
    kinds = {"teacher-near": "teacher", "baseline": "baseline", "whole": "student", "prune-0.5": "pruned"}
    assert {model: charts.model_kind(params, model) for model in kinds} == kinds
    small = DistillSettings(train_text="reference", alpha=0.0, student_size="1x8")
    sized = params.model_copy(update={"distill": params.distill | {"small": small}})
    assert charts.model_kind(sized, "small") == "baseline"


def test_charts_write_their_numbers_for_dvc(drawn: Path) -> None:
    assert (drawn / "bleu.csv").read_text().startswith("model,beam,remaining,bleu\nteacher,1,4000000,28.0\n")
    assert (drawn / "curves.csv").read_text().splitlines()[1] == "teacher,1,128.0"
    assert (drawn / "ranks.csv").read_text().splitlines()[-1] == "near,3,20"
    with (drawn / "kinds.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert first == {"feature": "in the source", "kind": "a number", "lines": "1", "model": "teacher", "bleu": "30.0"}
