from pathlib import Path
from typing import Any

import pytest

from seqkd.config import yaml_file
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


def _metadata(model: Model, **about: object) -> dict[str, Any]:
    card = model_card.render(
        name="small", model=model, trainings=[RETRAINED], about={**ABOUT, **about}, dev={"perplexity": "9.03"}
    )
    _, metadata, _ = card.split("---\n", 2)
    values = yaml_file.load(metadata)
    assert isinstance(values, dict)
    return values


def test_model_card_begins_with_the_metadata_that_the_hub_reads(model: Model) -> None:
    metadata = _metadata(model)
    assert metadata["language"] == ["en", "de"]
    assert metadata["license"] == "mit"
    assert metadata["pipeline_tag"] == "translation"
    assert metadata["model-index"] == [
        {
            "name": "small",
            "results": [
                {
                    "task": {"type": "translation"},
                    "dataset": {"name": "folder", "type": "folder", "split": "dev"},
                    "metrics": [{"type": "perplexity", "value": 9.03}],
                }
            ],
        }
    ]


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ({"packages": [{"licence": "Apache-2.0"}, {"licence": "Apache-2.0"}]}, {"license": "apache-2.0"}),
        (
            {"packages": [{"licence": "MIT"}, {"licence": "BSD, v3"}]},
            {"license": "other", "license_name": "bsd-v3-and-mit"},
        ),
        ({"files": {"train.en": "1f"}}, {"license": "unknown"}),
        ({"packages": [{"licence": "MIT"}, {"licence": "not stated"}]}, {"license": "unknown"}),
        ({}, {"license": "unknown"}),
    ],
)
def test_model_card_says_the_licence_of_the_corpus_or_that_it_is_unknown(
    model: Model, origin: dict[str, object], expected: dict[str, str]
) -> None:
    metadata = _metadata(model, origin=origin)
    assert {key: value for key, value in metadata.items() if key.startswith("license")} == expected


def test_model_card_keeps_a_corpus_name_that_looks_like_yaml_as_text(model: Model) -> None:
    name = "---\nlicense: mit # <script>"
    metadata = _metadata(model, corpus=name, origin={})
    assert metadata["license"] == "unknown"
    assert metadata["model-index"][0]["results"][0]["dataset"]["name"] == name


def test_model_card_names_the_loss_with_its_teacher(model: Model) -> None:
    assert "- loss: 0.5 NLL + 0.5 Word-KD from teacher" in _card(model, RETRAINED)
    assert "- loss: NLL" in _card(model, {"alpha": 0.0})
