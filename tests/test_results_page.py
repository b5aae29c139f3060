"""docs/results.md holds the tables of reports/results, which `make results` writes."""

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import results

BEAMS = (1, 5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tables of a teacher, a baseline and one student in two runs of a corpus named words."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    folder = tmp_path / "words"
    folder.mkdir()
    bleu = {"teacher": (30.0, 32.0), "baseline": (20.0, 21.0), "seq_kd": (25.0, 20.5)}
    closed = {"seq_kd": (0.5, -0.04)}
    p_baseline = {"teacher": (0.001, 0.001), "seq_kd": (0.001, 0.002)}
    p_teacher = {"baseline": (0.001, 0.001), "seq_kd": (0.02, 0.001)}
    rows = [
        {"seed": seed, "model": model}
        | {
            f"{name}_{beam}": values.get(model, (None, None))[run] if isinstance(values, dict) else values
            for beam in BEAMS
            for name, values in {
                "bleu": bleu,
                "bleu_ci": 1.25,
                "closed": closed,
                "bleu_p_baseline": p_baseline,
                "bleu_p_teacher": p_teacher,
            }.items()
        }
        for run, seed in enumerate((17, 18))
        for model in bleu
    ]
    pd.DataFrame(rows).to_csv(folder / "table1.csv", index=False)
    pruned = [
        {"seed": 17, "model": "seq_kd", "pruned": 0, "remaining": 1e6, "bleu_1": 25.0, "bleu_5": 26.0},
        {"seed": 17, "model": "prune-0.8", "pruned": 0.8, "remaining": 2e5, "bleu_1": 24.5, "bleu_5": 25.9},
    ]
    pd.DataFrame(pruned).to_csv(folder / "table3.csv", index=False)
    about = {"commit": "abc", "corpus": "corpora/words.yaml", "languages": ["en", "de"], "pieces": 4000}
    about |= {"pairs": {"train": 1000, "dev": 10, "test": 20, "monolingual": 30}, "processor": "a processor"}
    about |= {"teacher": "2x8", "teacher_epochs": 3, "student": "1x4", "student_epochs": 5}
    (folder / "about.json").write_text(json.dumps({"17": about, "18": about}))
    return folder


def test_docs_hold_the_tables_of_the_collected_runs() -> None:
    """`python -m benchmarks.results page` writes them."""
    text = results.PAGE.read_text(encoding="utf-8")
    assert results.with_tables(text) == text


def test_method_table_has_mean_interval_spread_and_the_sure_differences_of_all_seeds(folder: Path) -> None:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in results.method_table(folder).splitlines()]
    assert lines[0][:5] == ["model", "BLEU greedy", "closed", "baseline", "teacher"]
    assert lines[2][:5] == ["teacher", "31.0 ± 1.2 (1.4)", "", "> 2", ""]
    assert lines[4][:5] == ["seq_kd", "22.8 ± 1.2 (3.2)", "23%", "> 1 < 1", "< 1"]


def test_pruning_table_has_the_change_against_the_whole_model(folder: Path) -> None:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in results.pruning_table(folder).splitlines()]
    assert lines[2] == ["seq_kd", "0%", "1.00M", "25.0", "", "26.0", ""]
    assert lines[3] == ["prune-0.8", "80%", "0.20M", "24.5", "-0.5", "25.9", "-0.1"]


def test_tables_stand_between_the_marks_of_their_corpus(folder: Path) -> None:
    text = results.with_tables("before\n<!-- words -->\nold\n<!-- /words -->\nafter\n")
    assert text.startswith("before\n<!-- words -->\n\nen to de, from corpora/words.yaml: 1,000 training pairs and 30 ")
    assert text.endswith("|\n\n<!-- /words -->\nafter\n")
    assert "old" not in text
    assert results.with_tables(text) == text
    assert results.with_tables("nothing\n").startswith("nothing\n\n## words\n\n<!-- words -->\n\nen to de, from ")
