from pathlib import Path
from typing import Any

import pytest

from seqkd.data import vocab
from seqkd.models.checkpoint import Model
from seqkd.models.lstm import LSTMNetwork, NetworkShape
from seqkd.training import model_card

ABOUT = {"corpus": "folder", "source": "en", "target": "de", "pairs": {"train": 16_115}, "origin": {"licence": "MIT"}}
RETRAINED: dict[str, Any] = {"train_text": "seq_kd", "alpha": 0.5, "teacher": "teacher"}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    pieces = vocab.train(
        ["the cat sat on the mat", "der Kater saß auf der Matte"] * 3, tmp_path / "joint.model", size=40
    )
    return Model(LSTMNetwork(NetworkShape(pieces.size, 1, 4, 0.0)), pieces, None)


def _card(model: Model, *trainings: dict[str, Any]) -> list[str]:
    card = model_card.render(name="small", model=model, trainings=trainings, about=ABOUT, dev={"perplexity": "9.03"})
    return card.splitlines()


def test_model_card_tells_the_corpus_the_training_and_the_dev_scores(model: Model) -> None:
    lines = _card(model, RETRAINED)
    for line in (
        "# small",
        "## Training",
        "- train_text: seq_kd",
        "- alpha: 0.5",
        "- teacher: teacher",
        "- perplexity: 9.03",
    ):
        assert line in lines
    assert "folder, 16,115 training pairs." in lines
    assert '  "licence": "MIT"' in lines


def test_model_card_tells_every_training_of_several(model: Model) -> None:
    lines = _card(model, RETRAINED, {"train_text": "seq_inter"})
    first, second = lines.index("## Training, 1 of 2"), lines.index("## Training, 2 of 2")
    assert first < lines.index("- train_text: seq_kd") < second < lines.index("- train_text: seq_inter")
