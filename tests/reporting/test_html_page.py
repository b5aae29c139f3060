import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqkd.config.schema import Params
from seqkd.reporting import html_page, plots, tables
from seqkd.reporting.results import Results, Speed
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
def reports(measured: Path, found: Results, params: Params) -> Path:
    tables.write(tables.methods(params, found.scores), measured, "table1")
    tables.write(tables.pruning(params, found.scores), measured, "table3")
    plots.write(params, found, measured / "plots")
    (measured / "about.json").write_text(json.dumps(ABOUT))
    return measured


def _write(reports: Path) -> str:
    html_page.write(reports, audits=reports / "audit", about=reports / "about.json")
    return (reports / "index.html").read_text()


def test_the_page_holds_the_tables_the_audits_and_the_data(reports: Path) -> None:
    text = _write(reports)
    assert "80% of the way" in text
    assert "takes for each of 100 lines" in text
    assert "(+5.2)" in text
    assert "<dt>packages licence</dt><dd>MIT</dd>" in text
    assert "too &lt;long&gt;" in text
    assert "Not measured yet" in text


def test_the_page_shows_speed_once_it_is_measured(reports: Path, found: Results) -> None:
    speeds = [Speed(model="teacher", beam=beam, words_per_second=400.0 / beam, measured="mine") for beam in (1, 5)]
    tables.write(tables.speed_table(speeds, found.scores), reports, "table2")
    plots.speed(speeds, found.scores, reports / "plots")
    text = _write(reports)
    assert "Not measured yet" not in text
    images = re.findall(r'src="([^"]+)"', text)
    assert len(images) == 6
    assert all((reports / image).exists() for image in images)


def test_the_page_needs_nothing_from_elsewhere(reports: Path) -> None:
    assert not re.search(r"https?://|<script|@import", _write(reports))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: it.pop("hypotheses_per_line"), "hypotheses_per_line is missing"),
        (lambda it: it.update(settings={}), "settings.nbest is missing"),
        (lambda it: it["settings"].update(metric="x"), "settings.metric is 'x'"),
        (lambda it: it.update(lines=0), "lines is 0"),
        (lambda it: it.update(ranks=[10**300]), "ranks.0 is 100000000000000000...0000000000000000000"),
    ],
)
def test_an_audit_that_was_edited_is_refused_by_file_and_key(
    reports: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    path = reports / "audit" / "near.json"
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}: {said}; make it anew with dvc repro.')}$"):
        _write(reports)


@pytest.mark.parametrize(
    "change", [("closed_5", "clsoed_5"), ("\nbaseline", "\nbaselime"), ("text", "test"), ("28", "x")]
)
def test_a_table_1_that_was_edited_is_refused(reports: Path, change: tuple[str, str]) -> None:
    path = reports / "table1.csv"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(InputError, match=r"table1\.csv: not a table that seqkd wrote; make it anew with dvc repro\.$"):
        _write(reports)


def test_a_page_without_its_tables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "about.json").write_text(json.dumps(ABOUT))
    with pytest.raises(InputError, match="no such table yet; run dvc repro"):
        _write(tmp_path)
