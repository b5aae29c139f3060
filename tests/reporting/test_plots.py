import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from seqkd.config.schema import Params
from seqkd.evaluation.measurements import Speed
from seqkd.reporting import plot_labels, plots
from seqkd.reporting.results import Results

WORDS_PER_SECOND = {"teacher": (1900, 420), "baseline": (7400, 2300), "whole": (7500, 2280), "prune-0.9": (7450, 2290)}
SPEEDS = [
    Speed(model=model, beam=beam, words_per_second=value, measured="here")
    for model, values in WORDS_PER_SECOND.items()
    for beam, value in zip((1, 5), values, strict=True)
]


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with mpl.rc_context(plots.STYLE):
        yield


def _words(svg: Path) -> set[str]:
    return set(re.findall(r">([^<>\n]+)</text>", svg.read_text()))


def test_plots_of_the_same_numbers_have_the_same_bytes(tmp_path: Path, all_results: Results, params: Params) -> None:
    for name in ("one", "other"):
        plots.write(params, all_results, tmp_path / name)
        plots.write_speed(SPEEDS, all_results.scores, tmp_path / name)
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}
    plotted = {"beams.svg", "curves.svg", "pruning.svg", "ranks.svg", "size.svg", "speed.svg"}
    assert set(files) == plotted | {"bleu.csv", "curves.csv", "ranks.csv"}
    assert not any(re.search(rb"<dc:date>|20\d\d-\d\d-\d\d", content) for content in files.values())


def test_plots_label_every_row(tmp_path: Path, all_results: Results, params: Params) -> None:
    plots.write(params, all_results, tmp_path)
    plots.write_speed(SPEEDS, all_results.scores, tmp_path)
    assert set(params.models) <= _words(tmp_path / "curves.svg")
    assert set(params.models) <= _words(tmp_path / "beams.svg")
    assert {*params.models, "prune-0.5", "prune-0.9"} <= _words(tmp_path / "size.svg")
    measured = {f"{model}, {beam}" for model in WORDS_PER_SECOND for beam in ("greedy", "beam 5")}
    assert measured <= _words(tmp_path / "speed.svg")
    assert {"0", "50", "90", "pruned, greedy", "pruned, beam 5", "baseline, beam 5"} <= _words(tmp_path / "pruning.svg")
    assert "What near chose" in _words(tmp_path / "ranks.svg")
    assert "What mode chose" not in _words(tmp_path / "ranks.svg")


def test_plot_of_ranks_says_so_where_the_settings_have_no_selection(
    tmp_path: Path, all_results: Results, params: Params
) -> None:
    plots.write(params, all_results._replace(audits={}), tmp_path)
    assert _words(tmp_path / "ranks.svg") == {"params.yaml has no row of select, so nothing was chosen."}


def test_plot_labels_do_not_overlap_or_leave_the_figure(all_results: Results, params: Params) -> None:
    figures = {
        "curves": plots.curves_figure(params, all_results.curves),
        "beams": plots.beams_figure(params, all_results.scores),
        "size": plots.size_figure(params, all_results.scores),
        "pruning": plots.pruning_figure(params, all_results.scores),
        "speed": plots.speed_figure(SPEEDS, all_results.scores),
    }
    for name, figure in figures.items():
        boxes = {text.get_text(): text.get_window_extent() for text in _annotations(figure)}
        for (one, box), (other, second) in combinations(boxes.items(), 2):
            assert not box.overlaps(second), (name, one, other)
        for label, box in boxes.items():
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, (name, label)  # noqa: PT018
            assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, (name, label)  # noqa: PT018


def _annotations(figure: Figure) -> list[Annotation]:
    figure.draw_without_rendering()
    return [text for axes in figure.axes for text in axes.texts if isinstance(text, Annotation)]


def test_separate_keeps_order_and_gap_and_moves_no_more_than_it_must() -> None:
    assert plot_labels.separate([0, 100, 50], 10) == [0, 100, 50]
    assert plot_labels.separate([50, 50], 10) == [45, 55]
    assert plot_labels.separate([0, 1, 2, 100], 10) == [-9, 1, 11, 100]
    assert plot_labels.separate([], 10) == []


def test_model_kind_is_what_a_model_is(params: Params) -> None:
    kinds = {"teacher-near": "teacher", "baseline": "baseline", "whole": "student", "prune-0.5": "pruned"}
    assert {model: plots.model_kind(params, model) for model in kinds} == kinds


def test_plots_write_their_numbers_for_dvc(tmp_path: Path, all_results: Results, params: Params) -> None:
    plots.write(params, all_results, tmp_path)
    assert (tmp_path / "bleu.csv").read_text().startswith("model,beam,remaining,bleu\nteacher,1,4000000,28.0\n")
    assert (tmp_path / "curves.csv").read_text().splitlines()[1] == "teacher,1,128.0"
    assert (tmp_path / "ranks.csv").read_text().splitlines()[-1] == "near,3,20"
