"""README's sentences on significance are those of the committed Table 1."""

import re

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
