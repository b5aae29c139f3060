import json
import re
from pathlib import Path

import pytest

from seqkd import page, plots, table
from seqkd.config import Params
from seqkd.errors import InputError
from seqkd.results import Results, Speed

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
    table.write(table.methods(params, found.scores), measured, "table1")
    table.write(table.pruning(params, found.scores), measured, "table3")
    plots.write(params, found, measured / "plots")
    (measured / "about.json").write_text(json.dumps(ABOUT))
    return measured


def _write(reports: Path) -> str:
    page.write(reports, audits=reports / "audit", about=reports / "about.json")
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
    table.write(table.speed_table(speeds, found.scores), reports, "table2")
    plots.speed(speeds, found.scores, reports / "plots")
    text = _write(reports)
    assert "Not measured yet" not in text
    images = re.findall(r'src="([^"]+)"', text)
    assert len(images) == 6
    assert all((reports / image).exists() for image in images)


def test_the_page_needs_nothing_from_elsewhere(reports: Path) -> None:
    assert not re.search(r"https?://|<script|@import", _write(reports))


def test_a_page_without_its_tables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "about.json").write_text(json.dumps(ABOUT))
    with pytest.raises(InputError, match="no such table yet; run dvc repro"):
        _write(tmp_path)
