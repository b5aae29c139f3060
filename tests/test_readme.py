"""README's first table and its sentences on significance are those of the committed Table 1."""

import re
from typing import Any

import pandas as pd
import pytest
from source_tree import ROOT

from seqkd.reporting import sentences, tables


def test_readme_says_of_certainty_what_table_1_says() -> None:
    """`seqkd show --reports reports` prints the sentences to put between the two comments."""
    path = ROOT / "reports" / "table1.csv"
    if "bootstrap" not in tables.read(path):
        pytest.skip("reports/table1.csv is of a run without the stage evidence")
    stated = re.search("<!-- certainty -->(.*?)<!-- /certainty -->", (ROOT / "README.md").read_text(), re.DOTALL)
    assert stated is not None
    assert " ".join(stated[1].split()) == " ".join(sentences.certainty(tables.read_methods(path)))


def test_readme_begins_with_the_numbers_of_table_1() -> None:
    table = pd.read_csv(ROOT / "reports" / "table1.csv")
    stated = re.findall(r"^\| ([\w-]+) \| ([\d.]+)M \| ([\d.]+) \| ([\d.]+) \|", (ROOT / "README.md").read_text(), re.M)
    rows = zip(table["model"], table["parameters"], table["bleu_1"], table["bleu_5"], strict=True)
    assert stated == [(model, f"{size / 1e6:.2f}", f"{one:.1f}", f"{five:.1f}") for model, size, one, five in rows]


def test_readme_says_of_the_best_student_what_the_tables_say() -> None:
    text, reports = " ".join((ROOT / "README.md").read_text().split()), ROOT / "reports"
    table = pd.read_csv(reports / "table1.csv").set_index("model")
    of: dict[str, dict[str, Any]] = table.to_dict("index")  # type: ignore[assignment]
    ladder = pd.read_csv(reports / "ladder.csv")
    [name] = set(ladder["model"][ladder["rung"] == "best student"])
    best, baseline, beam_5 = of[name], of["baseline"], of["teacher"]["bleu_5"]
    gains = [f"{best[score] - baseline[score]:.1f}" for score in ("bleu_1", "bleu_5")]
    closed = [f"{best[share]:.0%}".replace("%", " %") for share in ("closed_1", "closed_5")]
    said = "The best student, {}, gains {} BLEU greedy and {} with beam 5 over the baseline: {} and {} of the gap"
    assert said.format(name, *gains, *closed) in text
    lost = beam_5 - best["bleu_5"], beam_5 - best["bleu_1"], beam_5 - of["seq_kd-small"]["bleu_1"]
    losses = r"at a loss of {:.1f} BLEU\. .* at a loss of {:.1f} BLEU \(ladder\); .* at a loss of {:.1f} \(Table 2\)"
    assert re.search(losses.format(*lost), text)


def test_readme_says_of_three_seeds_what_their_tables_say() -> None:
    rows = pd.read_csv(ROOT / "reports" / "results" / "default" / "table1.csv")
    assert rows["seed"].nunique() == 3
    mean = rows.groupby("model")[["bleu_1", "bleu_5"]].mean()
    greedy, beam = mean.loc["seq_kd-word_kd"] - mean.loc["baseline"]
    said = f"[docs/results.md](docs/results.md)): on average seq_kd-word_kd gains {greedy:.1f} BLEU"
    assert f"{said} greedy and {beam:.1f} with beam 5" in " ".join((ROOT / "README.md").read_text().split())


def test_readme_says_of_the_speed_beside_a_peer_what_the_benchmarks_say() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    page = (ROOT / "reports" / "benchmarks.md").read_text()
    for processor, said in (
        ("AMD EPYC", "{} to {} times as fast as OpenNMT-py on AMD's Zen 5"),
        ("Intel", "{} to {} times on an"),
    ):
        [section] = [part for part in page.split("\n## ") if part.startswith(processor)]
        ratios = [float(found) for found in re.findall(r"\(OpenNMT-py, fp32\) +\| ([\d.]+)", section)]
        assert said.format(f"{min(ratios):.1f}", f"{max(ratios):.1f}") in text
