"""README's first table and its sentences on significance are those of the committed Table 1."""

import re

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
