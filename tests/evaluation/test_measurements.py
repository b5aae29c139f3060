from pathlib import Path

import pytest

from seqkd.evaluation import measurements
from seqkd.evaluation.measurements import BeamScores, ModelScores
from seqkd.utils.errors import InputError

SCORES = ModelScores(
    model="m",
    parameters=10,
    remaining=5,
    bytes=40,
    perplexity=2.5,
    mode_probability=0.1,
    signature_bleu="nrefs:1|tok:13a",
    signature_chrf="nrefs:1|nc:6",
    beams={"5": BeamScores(bleu=20.0, chrf=40.25, length_ratio=1.0)},
)
JSON = """{
  "beams": {
    "5": {
      "bleu": 20.0,
      "chrf": 40.25,
      "length_ratio": 1.0
    }
  },
  "bytes": 40,
  "mode_probability": 0.1,
  "model": "m",
  "parameters": 10,
  "perplexity": 2.5,
  "remaining": 5,
  "signature_bleu": "nrefs:1|tok:13a",
  "signature_chrf": "nrefs:1|nc:6"
}
"""


def test_measurement_is_written_with_sorted_keys_and_read_again(tmp_path: Path) -> None:
    measurements.write(tmp_path / "m.json", SCORES)
    assert (tmp_path / "m.json").read_text() == JSON
    assert measurements.read(ModelScores, tmp_path / "m.json") == SCORES
    assert SCORES.bleu(5) == 20.0


def test_measurement_of_a_later_version_is_read_without_its_new_keys(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(JSON.replace("{\n", '{\n  "new": 1,\n', 1))
    assert measurements.read(ModelScores, tmp_path / "m.json") == SCORES


def test_measurement_that_is_no_json_object_is_refused(tmp_path: Path) -> None:
    for text in ("[1]", "3", "null"):
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(InputError, match=r"m\.json: not a JSON object; delete it and run dvc repro\.$"):
            measurements.read(ModelScores, tmp_path / "m.json")
