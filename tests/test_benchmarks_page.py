"""reports/benchmarks.md has a section for each processor, and a run replaces that of the machine it runs on."""

import json
from pathlib import Path

import pytest
import torch
from source_tree import ROOT

from benchmarks import __main__ as benchmarks
from benchmarks import page
from benchmarks.rows import Row, record
from seqkd.ops import devices


def test_merge_replaces_the_section_of_a_processor_and_leaves_the_others() -> None:
    both = page.merge("", {"One": "### a\n\n1", "Two": "### a\n\n2"})
    assert page.merge(both, {}) == both
    assert page.merge(both, {"Two": "### b\n\n3"}) == both.replace("### a\n\n2", "### b\n\n3")
    assert page.merge(both, {"Three": "4"}) == both + "\n## Three\n\n4\n"
    assert [line for line in both.splitlines() if line.startswith("#")][1:] == ["## One", "### a", "## Two", "### a"]


def test_page_in_reports_is_as_merge_writes_it() -> None:
    text = (ROOT / "reports/benchmarks.md").read_text(encoding="utf-8")
    assert page.merge(text, {}) == text


def test_write_puts_results_under_what_they_were_measured_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "limits", lambda: "limits.")
    here = devices.device_name(torch.device("cpu"))
    rows = [record(Row("work", "words/s", 5.0))]
    for section, processor in (("engine", here), ("gpu", "A GPU")):
        found = {"title": section, "rows": rows, "date": "2026-11-30", "how": "3 rounds", "processor": processor}
        (tmp_path / f"{section}.json").write_text(json.dumps(found))
    other = page.merge("", {"Another": "### engine\n\ntheirs", here: "### engine\n\nold"})
    (tmp_path / "page.md").write_text(other)
    benchmarks.write(tmp_path / "page.md", tmp_path)
    text = (tmp_path / "page.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("#")][1:]
    assert headings == ["## Another", "### engine", f"## {here}", "### engine", "## A GPU", "### gpu"]
    assert "theirs" in text
    assert "old" not in text
    assert text.index(f"## {here}") < text.index("limits.") < text.index("| work | 5 words/s") < text.index("## A GPU")
