"""Settings: what is unknown, missing, mistyped or names nothing is refused in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from source_tree import ROOT

from seqkd.config import schema
from seqkd.utils.errors import InputError


@pytest.fixture
def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return found


def refused(values: dict[str, Any], folder: Path) -> str:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(InputError) as error:
        schema.load_params(path)
    text = str(error.value)
    assert text.count("\n") == 0
    return text


def test_the_projects_own_settings_are_read() -> None:
    params = schema.load_params(ROOT / "params.yaml")
    assert params.models[0] == "teacher"
    assert params.models.index("baseline") < params.models.index("seq_kd")
    assert {params.role(model) for model in params.models} == {"teacher", "student"}
    assert params.role("teacher-seq_inter") == "teacher"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vocab": {"size": 4000, "sise": 1}}, "vocab.sise is not a known key"),
        ({"vocab": {}}, "vocab.size is missing"),
        ({"seed": "17"}, "seed is '17'"),
        ({"data": {"corpus": "c", "source": "en", "target": "en", "max_length": 9}}, "both 'en'; name two languages"),
        ({"student": {"size": "2-64", "dropout": 0.1}}, "student.size is '2-64'"),
        ({"student": {"size": "2x64", "dropout": 1.5}}, "student.dropout is 1.5"),
        ({"distill": {"word_kd": {"train_text": "golden", "alpha": 0.5}}}, "it must be one of"),
        (
            {"prune": {"model": "nobody", "ratios": [0.5], "retrain": "gold", "finetune": "gold"}},
            "prune.model is 'nobody'",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named(
    values: dict[str, Any], tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    assert said in refused(values | change, tmp_path)


def test_a_row_that_is_not_there_is_answered_with_those_that_are() -> None:
    params = schema.load_params(ROOT / "params.yaml")
    assert schema.row(params.distill, "seq_kd", section="distill").train_text == "seq_kd"
    with pytest.raises(InputError, match="distill has no row 'seqkd'; name one of word_kd, seq_kd"):
        schema.row(params.distill, "seqkd", section="distill")


def test_broken_yaml_and_an_absent_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: [1\nvocab: 2\n")
    with pytest.raises(InputError, match="line 2: not valid YAML"):
        schema.load_params(tmp_path / "params.yaml")
    with pytest.raises(InputError, match="no such file"):
        schema.load_params(tmp_path / "other.yaml")


def test_without_a_machine_file_all_cores_are_used(tmp_path: Path) -> None:
    assert schema.load_machine(tmp_path / "machine.yaml").processes >= 1
    (tmp_path / "machine.yaml").write_text("processes: 3\ndevice: cpu\n")
    assert schema.load_machine(tmp_path / "machine.yaml").processes == 3


def test_an_experiments_clone_knows_the_checkouts_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = tmp_path / ".dvc/tmp/exps/standalone/tmp1"
    clone.mkdir(parents=True)
    (tmp_path / "machine.yaml").write_text("processes: 7\n")
    monkeypatch.chdir(clone)
    assert schema.load_machine().processes == 7
    (clone / "machine.yaml").write_text("processes: 5\n")
    assert schema.load_machine().processes == 5
    (clone / "machine.yaml").unlink()
    (clone / "machine.yaml").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"^machine\.yaml: a link to a file that is not there; correct the link"):
        schema.load_machine()
    (tmp_path / "machine.yaml").write_text("wrokers: 7\n")
    (clone / "machine.yaml").unlink()
    with pytest.raises(InputError, match=rf"^{tmp_path}/machine\.yaml: wrokers is not a known key"):
        schema.load_machine()
