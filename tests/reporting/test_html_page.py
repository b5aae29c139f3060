import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqkd.config.schema import Params
from seqkd.evaluation.measurements import Speed
from seqkd.reporting import html_page, plots, tables
from seqkd.reporting.results import Results
from seqkd.utils.errors import InputError

ABOUT = {
    "corpus": "corpora/made-up.yaml",
    "source": "en",
    "target": "de",
    "pairs": {"train": 16000, "dev": 1000, "test": 1000},
    "dropped": {"too <long>": 7, "repeated": 12},
    "origin": {"packages": [{"package": "made-up", "licence": "MIT", "version": "1.0"}]},
}


@pytest.fixture
def reports(results_folder: Path, all_results: Results, params: Params) -> Path:
    tables.write(tables.method_table(params, all_results.scores), results_folder, "table1")
    tables.write(tables.pruning_table(params, all_results.scores), results_folder, "table3")
    plots.write(params, all_results, results_folder / "plots")
    (results_folder / "about.json").write_text(json.dumps(ABOUT))
    return results_folder


def _write(reports: Path) -> str:
    html_page.write(reports, audits=reports / "audit", about=reports / "about.json")
    return (reports / "index.html").read_text()


def test_html_page_holds_the_tables_the_audits_and_the_data(reports: Path) -> None:
    text = _write(reports)
    assert "80% of the way" in text
    assert "takes for each of 100 lines" in text
    assert "(+5.2)" in text
    assert "<dt>packages licence</dt><dd>MIT</dd>" in text
    assert "too &lt;long&gt;" in text
    assert "Not measured yet" in text


def test_html_page_shows_speed_once_it_is_measured(reports: Path, all_results: Results) -> None:
    speeds = [Speed(model="teacher", beam=beam, words_per_second=400.0 / beam, measured="mine") for beam in (1, 5)]
    tables.write(tables.speed_table(speeds, all_results.scores), reports, "table2")
    plots.write_speed(speeds, all_results.scores, reports / "plots")
    text = _write(reports)
    assert "Not measured yet" not in text
    images = re.findall(r'src="([^"]+)"', text)
    assert len(images) == 6
    assert all((reports / image).exists() for image in images)


def test_html_page_loads_nothing_from_elsewhere(reports: Path) -> None:
    assert not re.search(r"https?://|<script|@import", _write(reports))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("hypotheses_per_line"), "hypotheses_per_line is missing"),
        (lambda record: record.update(settings={}), "settings.nbest is missing"),
        (lambda record: record["settings"].update(metric="x"), "settings.metric is 'x'"),
        (lambda record: record.update(lines=0), "lines is 0"),
        (lambda record: record.update(ranks=[10**300]), "ranks.0 is 100000000000000000...0000000000000000000"),
    ],
)
def test_html_page_refuses_an_edited_audit_by_file_and_key(
    reports: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = reports / "audit" / "near.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}: {message}; make it anew with dvc repro.')}$"):
        _write(reports)


@pytest.mark.parametrize(
    "change", [("closed_5", "clsoed_5"), ("\nbaseline", "\nbaselime"), ("text", "test"), ("28", "x")]
)
def test_html_page_refuses_an_edited_table_1(reports: Path, change: tuple[str, str]) -> None:
    path = reports / "table1.csv"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(InputError, match=r"table1\.csv: not a table that seqkd wrote; make it anew with dvc repro\.$"):
        _write(reports)


def test_html_page_refuses_a_folder_without_tables(tmp_path: Path) -> None:
    (tmp_path / "about.json").write_text(json.dumps(ABOUT))
    with pytest.raises(InputError, match="no such table yet; run dvc repro"):
        _write(tmp_path)
