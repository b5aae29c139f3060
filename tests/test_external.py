"""The whole pipeline with external teachers alone, at its smallest, by DVC itself."""

import json
from pathlib import Path

import pytest

from benchmarks import tiny
from benchmarks.tiny import Project

pytestmark = [pytest.mark.slow, pytest.mark.dvc]

ROWS = {
    "teachers": {
        "vendor": {"kind": "files", "lists": "vendor.de", "sources": "all.en", "test": "vendor.test.de"},
        "shouter": {"kind": "command", "version": "1"},
    },
    "decode": {
        "vendor": {"teacher": "vendor"},
        "shouter": {"teacher": "shouter"},
        "both": {"join": ["shouter", "vendor"]},
    },
    "select": {
        "first": {"nbest": "vendor", "metric": "score", "drop": ["copy", "length"]},
        "near": {"nbest": "both", "metric": "bleu"},
    },
    "mix": {},
    "distill": {"whole": {"train_text": "first", "alpha": 0.0}},
    "finetune": {"whole-near": {"train_text": "near", "alpha": 0.0, "init_from": "whole"}},
    "prune": {"model": "whole", "ratios": [], "retrain": "first", "finetune": "first"},
    "evaluate": {"beams": [1]},
    "speed": {"models": ["whole"], "sentences": 2, "rounds": 1},
}
SHOUT = "import sys\nfor line in sys.stdin: print(line.strip().upper())"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of two external teachers, run once; some source lines have no human translation."""
    made = tiny.copy(tmp_path_factory.mktemp("external") / "project")
    made.run("dvc", "repro", "preprocess")
    text = (made.folder / "data/text/reference.tsv").read_text("utf-8").splitlines()
    pairs = [line.split("\t")[1:] for line in text]
    extra = [f"extra {source}" for source, _ in pairs[:20]]
    _write(made.folder / "mono.en", extra)
    _write(made.folder / "all.en", [*(source for source, _ in pairs), *extra])
    _write(made.folder / "vendor.de", [*(target for _, target in pairs), *(target for _, target in pairs[:20])])
    test = (made.folder / "data/corpus/test.tsv").read_text("utf-8").splitlines()
    _write(made.folder / "vendor.test.de", [line.split("\t")[2] for line in test])
    made.machine(processes=1, commands={"shouter": {"argv": ["python", "-c", SHOUT]}})
    values = made.read()
    made.write(values | ROWS | {"data": values["data"] | {"monolingual": "mono.en"}})
    made.run("dvc", "repro")
    return made


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def test_external_teachers_have_their_rows_and_none_is_trained(project: Project) -> None:
    rows = (project.folder / "reports/table1.csv").read_text("utf-8").splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["vendor", "shouter", "baseline", "whole", "whole-near"]
    assert rows[1].startswith("vendor,its own,its own,files,,100,")
    assert sorted(path.name for path in (project.folder / "models/teacher").iterdir()) == ["README.md", "vocab.model"]
    assert "vendor, shouter teaches instead" in (project.folder / "models/teacher/README.md").read_text()


def test_texts_have_the_lines_that_nobody_translated_and_the_audit_says_whose_they_are(project: Project) -> None:
    audits = {row: json.loads((project.folder / f"reports/audit/{row}.json").read_text()) for row in ("first", "near")}
    human = audits["near"]["lines"]
    assert audits["near"]["without_target"] > 0
    assert audits["first"]["lines"] == human + audits["near"]["without_target"]
    assert audits["first"]["compared"] == human
    assert audits["near"]["teachers"] == {"shouter": 0, "vendor": human}
    assert (project.folder / "data/text/first.tsv").read_text("utf-8").count("\textra ") > 0


def test_second_run_asks_the_teachers_again_but_changes_nothing(project: Project) -> None:
    before = project.lock
    told = project.run("dvc", "repro")
    assert project.lock == before
    assert {line for line in told.splitlines() if line.startswith("Running")} == {
        "Running stage 'teach@vendor':",
        "Running stage 'teach@shouter':",
    }
