"""Settings: a key that is unknown, missing, mistyped or has an old name is refused in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from source_tree import ROOT

from seqkd.config import load, overlay, schema
from seqkd.utils.errors import InputError


@pytest.fixture
def values() -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return settings


def refused(values: dict[str, Any], folder: Path) -> str:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load.params(path)
    text = str(error.value)
    assert text.count("\n") == 0
    return text


def test_load_params_reads_the_projects_own_settings() -> None:
    params = load.params(ROOT / "params.yaml")
    assert params.models[0] == "teacher"
    assert params.models.index("baseline") < params.models.index("seq_kd")
    assert {params.role(model) for model in params.models} == {"teacher", "student"}
    assert params.role("teacher-seq_inter") == "teacher"


@pytest.mark.parametrize("code", ["de", "pt_BR", "pt-BR", "zh-Hant-TW", "sr@latin", "ca_ES@valencia", "es-419"])
def test_load_params_takes_a_language_as_its_files_spell_it(values: dict[str, Any], tmp_path: Path, code: str) -> None:
    values["data"]["target"] = code
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert load.params(tmp_path / "params.yaml").data.target == code


@pytest.mark.parametrize("code", ["", "@latin", "sr@", "sr@@latin", "../de", "d e", "de/at", "sr@la/tin", "de\n"])
def test_load_params_refuses_what_is_no_language(values: dict[str, Any], tmp_path: Path, code: str) -> None:
    values["data"]["target"] = code
    assert "it must be a language's code, such as de or pt_BR" in refused(values, tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"vocab": {"size": 4000, "sise": 1}}, "vocab.sise is not a known key"),
        ({"vocab": {}}, "vocab.size is missing"),
        ({"seed": "17"}, "seed is '17'"),
        (
            {"data": {"corpus": "c", "source": "en", "target": "en", "max_length": 9, "tidy": False}},
            "both 'en'; name two languages",
        ),
        ({"student": {"size": "2-64", "dropout": 0.1}}, "student.size is '2-64'"),
        ({"student": {"size": "2x64", "dropout": 1.5}}, "student.dropout is 1.5"),
        ({"distill": {"word_kd": {"train_text": "golden", "alpha": 0.5}}}, "it must be one of"),
        (
            {"prune": {"model": "nobody", "ratios": [0.5], "retrain": "reference", "finetune": "reference"}},
            "prune.model is 'nobody'",
        ),
    ],
)
def test_load_params_names_a_wrong_key_or_value(
    values: dict[str, Any], tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    assert expected in refused(values | change, tmp_path)


NETWORK = {"spread": "init_range", "embedding_spread": "embedding_init_range"}
OPTIMIZER = {
    "method": "optimizer",
    "rate": "learning_rate",
    "batch": "batch_size",
    "clip": "max_grad_norm",
    "warmup": "warmup_steps",
    "halve_from": "start_decay_epoch",
    "keep": "keep_checkpoint",
    "loss_per": "loss_normalization",
    "shares": "shards",
}
RENAMED = [
    ("data.max_tokens", "max_length"),
    *((f"{section}.{old}", new) for section in ("teacher", "student") for old, new in NETWORK.items()),
    ("optim.tune", "finetune"),
    *((f"optim.{row}.{old}", new) for row in ("teacher", "retrain") for old, new in OPTIMIZER.items()),
    ("decode.k5.normalise", "length_penalty"),
    ("select.seq_kd.pick", "metric"),
    ("distill.seq_kd.text", "train_text"),
    ("finetune.seq_inter.text", "train_text"),
    ("finetune.seq_inter.init", "init_from"),
    ("evaluate.normalise", "length_penalty"),
]


def section_of(settings: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The mapping that a key with dots stands in, and its last name."""
    *sections, name = key.split(".")
    for section in sections:
        settings = settings[section]
    return settings, name


@pytest.mark.parametrize(("key", "new"), RENAMED)
def test_old_names_of_params_are_refused_with_the_new_name(
    values: dict[str, Any], tmp_path: Path, key: str, new: str
) -> None:
    section, old = section_of(values, key)
    section[old] = section.pop(new, 1)
    assert refused(values, tmp_path) == f"{tmp_path}/params.yaml: {key} is now called {new}; rename it."


@pytest.mark.parametrize(("key", "new"), RENAMED)
def test_old_names_of_an_overlay_are_refused_with_the_new_name(tmp_path: Path, key: str, new: str) -> None:
    path, old = tmp_path / "own.yaml", key.split(".")
    path.write_text(f"{'{'.join(f'{name}: ' for name in old)}1{'}' * (len(old) - 1)}\n")
    with pytest.raises(InputError) as error:
        overlay.apply(path, params=ROOT / "params.yaml")
    assert str(error.value) == f"{path}: {key} is now called {new}; rename it."


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("workers", "processes"),
        ("rows", "max_batch_hypotheses"),
        ("products", "matmul_backend"),
        ("save_every", "checkpoint_interval"),
    ],
)
def test_old_names_of_machine_are_refused_with_the_new_name(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "machine.yaml"
    path.write_text(f"{old}: 0\nwrokers: 1\n")
    with pytest.raises(InputError) as error:
        load.machine(path)
    assert str(error.value) == f"{path}: {old} is now called {new}; rename it."


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("optim.student.loss_normalization", "word", "tokens"),
        ("optim.student.loss_normalization", "sentence", "sentences"),
        ("distill.word_kd.train_text", "gold", "reference"),
        ("finetune.seq_inter.train_text", "gold", "reference"),
        ("prune.retrain", "gold", "reference"),
        ("prune.finetune", "gold", "reference"),
    ],
)
def test_old_values_are_refused_with_the_new_name(
    values: dict[str, Any], tmp_path: Path, key: str, old: str, new: str
) -> None:
    section, name = section_of(values, key)
    section[name] = old
    assert refused(values, tmp_path) == f"{tmp_path}/params.yaml: {key}: {old} is now called {new}; rename it."


def test_old_names_come_before_every_other_fault(values: dict[str, Any], tmp_path: Path) -> None:
    values["seed"] = "17"
    del values["vocab"]
    values["optim"]["teacher"]["rate"] = values["optim"]["teacher"].pop("learning_rate")
    assert refused(values, tmp_path) == (
        f"{tmp_path}/params.yaml: optim.teacher.rate is now called learning_rate; rename it."
    )


def test_old_names_are_allowed_elsewhere(values: dict[str, Any], tmp_path: Path) -> None:
    """A row may be called text, tune or gold."""
    values["decode"]["batch"] = {"beam": 2}
    values["select"] |= {"gold": values["select"]["seq_kd"], "text": values["select"]["seq_kd"]}
    values["distill"] |= {"tune": {"train_text": "gold", "alpha": 0.0}, "rate": {"train_text": "text", "alpha": 0.0}}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    assert load.params(path).distill["tune"].train_text == "gold"


def test_schema_refuses_an_alias_that_leads_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("data: &a {b: *a}\n")
    with pytest.raises(InputError, match=r"params\.yaml: seed is missing"):
        load.params(tmp_path / "params.yaml")


def test_schema_answers_an_unknown_row_with_those_that_exist() -> None:
    params = load.params(ROOT / "params.yaml")
    assert schema.row(params.distill, "seq_kd", section="distill").train_text == "seq_kd"
    with pytest.raises(InputError, match="distill has no row 'seqkd'; name one of word_kd, seq_kd"):
        schema.row(params.distill, "seqkd", section="distill")


def test_load_params_names_broken_yaml_and_an_absent_file(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: [1\nvocab: 2\n")
    with pytest.raises(InputError, match="line 2: not valid YAML"):
        load.params(tmp_path / "params.yaml")
    with pytest.raises(InputError, match="no such file"):
        load.params(tmp_path / "other.yaml")


def test_automatic_initial_weights_depend_on_the_hidden_units() -> None:
    small = schema.NetworkSettings(size="2x64", dropout=0.1, init_range="auto")
    large = small.model_copy(update={"size": "2x256"})
    assert [each.model_dump()["init_range"] for each in (small, large)] == [0.4, 0.2]
    assert schema.NetworkSettings(size="2x64", dropout=0.1, init_range=0.3).model_dump()["init_range"] == 0.3


def test_load_machine_uses_all_cores_without_a_file(tmp_path: Path) -> None:
    assert load.machine(tmp_path / "machine.yaml").processes >= 1
    (tmp_path / "machine.yaml").write_text("processes: 3\ndevice: cpu\n")
    assert load.machine(tmp_path / "machine.yaml").processes == 3


def test_load_machine_reads_the_checkouts_file_in_an_experiments_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / ".dvc/tmp/exps/standalone/tmp1"
    clone.mkdir(parents=True)
    (tmp_path / "machine.yaml").write_text("processes: 7\n")
    monkeypatch.chdir(clone)
    assert load.machine().processes == 7
    (clone / "machine.yaml").write_text("processes: 5\n")
    assert load.machine().processes == 5
    (clone / "machine.yaml").unlink()
    (clone / "machine.yaml").symlink_to("nowhere")
    with pytest.raises(
        InputError, match=r"^machine\.yaml: a link to a file that is not there; correct the link or remove it"
    ):
        load.machine()
    (tmp_path / "machine.yaml").write_text("wrokers: 7\n")
    (clone / "machine.yaml").unlink()
    with pytest.raises(InputError, match=rf"^{tmp_path}/machine\.yaml: wrokers is not a known key"):
        load.machine()


@pytest.mark.parametrize(
    ("section", "row", "expected"),
    [
        ("mix", {"x": {}}, "mix.x is {}; it must hold a number above zero"),
        ("mix", {"x": {"reference": 0}}, "mix.x.reference is 0; it must be greater than or equal to 1"),
        ("mix", {"x": {"nowhere": 1}}, "mix.x is 'nowhere'; it must be one of"),
        ("mix", {"x": {"own": 1}}, "mix.x is 'own'; it must be one of"),
        ("mix", {"reference": {"seq_kd": 1}}, "mix.reference and the reference text would both write reference"),
        ("mix", {"own": {"seq_kd": 1}}, "mix.own and the student's own text would both write own"),
        ("select", {"seq_kd": {"nbest": "k5", "metric": "score", "times": []}}, "select.seq_kd.times is []"),
        ("select", {"seq_kd": {"nbest": "k5", "metric": "score", "times": [0]}}, "select.seq_kd.times is [0]"),
        ("distill", {"x": {"train_text": "own", "alpha": 0.0}}, "set alpha above 0, best to 1, and top_k to 0"),
        ("distill", {"x": {"train_text": "own", "alpha": 1.0, "top_k": 4}}, "distill.x trains on the student's own"),
        ("distill", {"x": {"train_text": "reference", "alpha": 0.0, "size": "2x32"}}, "distill.x.size is not a known"),
        ("distill", {"x": {"train_text": "reference", "alpha": 0.0, "student_size": "32"}}, "it must be LAYERSxUNITS"),
        ("teacher", {"size": "2x32", "dropout": 0.1, "members": 0}, "teacher.members is 0"),
    ],
)
def test_load_params_refuses_wrong_mixtures_copies_and_members(
    values: dict[str, Any], tmp_path: Path, section: str, row: dict[str, Any], expected: str
) -> None:
    changed = {section: values[section] | row} if section in ("select", "distill") else {section: row}
    assert expected in refused(values | changed, tmp_path)


def test_params_tell_each_models_network_baseline_text_and_teachers(values: dict[str, Any], tmp_path: Path) -> None:
    values["distill"] |= {
        "narrow": {"train_text": "both", "alpha": 0.0, "student_size": "2x32"},
        "narrow-human": {"train_text": "reference", "alpha": 0.0, "student_size": "2x32"},
        "odd": {"train_text": "own", "alpha": 1.0, "student_size": "1x8"},
    }
    values["select"]["seq_kd"]["times"] = [2, 1]
    values["mix"] = {"both": {"seq_kd": 2, "reference": 3}}
    values["finetune"]["narrow-more"] = {"train_text": "own", "init_from": "narrow", "alpha": 1.0}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    params = load.params(tmp_path / "params.yaml")
    assert [params.network_of(name).size for name in ("narrow", "narrow-more", "odd")] == ["2x32", "2x32", "1x8"]
    assert params.network_of("baseline") == params.student
    assert params.network_of("teacher") == params.teacher
    assert [params.baseline_of(name) for name in ("narrow-more", "odd", "seq_kd")] == ["narrow-human", None, "baseline"]
    assert [params.copies(text) for text in ("reference", "seq_kd", "both")] == [1, 3, 9]
    assert [params.teachers_of(text) for text in ("both", "own", "reference")] == [["teacher"], ["teacher"], []]
