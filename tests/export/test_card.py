"""The card of an exported model: it tells the scores of the weights that are sent, in text and in metadata."""

from pathlib import Path

import pytest
import torch

from seqkd.data import bitext, vocab
from seqkd.data.bitext import Pair
from seqkd.export import card
from seqkd.models import checkpoint
from seqkd.models.checkpoint import Model
from seqkd.models.lstm import LSTMNetwork, NetworkShape
from seqkd.training import model_card
from stages import export

ABOUT = {"corpus": "folder", "source": "en", "target": "de", "origin": {"licence": "MIT"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pieces = vocab.train(["the cat sat on the mat", "a dog ran"] * 3, tmp_path / "joint.model", size=30)
    network = LSTMNetwork(NetworkShape(pieces.size, 1, 8, 0.0))
    network.init_weights(torch.Generator().manual_seed(1), init_range=1.0)
    made = Model(network, pieces, None)
    text = model_card.render(name="m", model=made, trainings=[{"alpha": 0.0}], about=ABOUT, dev={"perplexity": "9.03"})
    checkpoint.save(tmp_path / "m", made, card=text)
    return tmp_path / "m"


def test_card_comes_back_as_it_was_written(folder: Path) -> None:
    found = card.read(folder)
    assert found.languages == ["en", "de"]
    assert found.title == "m"
    assert found.render() == (folder / checkpoint.CARD).read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["# old\n", "---\n{[\n---\n# broken\n", "---\n- list\n---\n# list\n", "---\n"])
def test_card_without_readable_metadata_is_text_alone(folder: Path, text: str) -> None:
    (folder / checkpoint.CARD).write_text(text)
    assert card.read(folder) == ({}, text)


def test_card_of_an_export_tells_scores_with_interval_and_signature(folder: Path, tmp_path: Path) -> None:
    bitext.write(tmp_path / "test.tsv", [Pair(number, f"a dog {number}", "the cat") for number in range(8)])
    export.main(model=folder, test=tmp_path / "test.tsv", out=tmp_path / "sent")
    found = card.read(tmp_path / "sent")
    results = found.metadata["model-index"][0]["results"]
    assert [result["dataset"]["split"] for result in results] == ["dev", "test"]
    assert [metric["type"] for metric in results[1]["metrics"]] == ["bleu", "chrf", "bleu", "chrf"]
    assert "95 % interval ±" in results[1]["metrics"][0]["name"]
    rows = [line for line in found.text.splitlines() if line.startswith(("| 1 |", "| 5 |"))]
    assert len(rows) == 4
    assert all("±" in row and "version:" in row for row in rows)
