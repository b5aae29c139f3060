import difflib
import re
import shutil
from pathlib import Path

import pytest
from source_tree import ROOT

from seqkd.config import load, overlay
from seqkd.config.overlay import Change
from seqkd.utils.errors import InputError
from stages import use

OVERLAYS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def _overlay(params: Path, text: str) -> Path:
    path = params.with_name("own.yaml")
    path.write_text(text, encoding="utf-8")
    return path


def _comments(path: Path) -> list[str]:
    return [line.split("#")[1].strip() for line in path.read_text("utf-8").splitlines() if "#" in line]


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_overlays_of_the_project_make_valid_settings_and_keep_the_comments(path: Path, params: Path) -> None:
    comments = _comments(params)
    assert overlay.apply(path, params=params)
    corpus = load.params(params).data.corpus
    assert (ROOT / corpus).exists() or corpus == "news"  # the user's own, in configs/external-files.yaml
    assert _comments(params) == [comment for comment in comments if comment in _comments(params)]  # of rows that stay
    assert overlay.apply(path, params=params) == []


def test_overlay_removes_what_it_sets_to_null(params: Path) -> None:
    changes = overlay.apply(
        _overlay(params, "prune: {ratios: []}\nfinetune: {teacher-seq_inter: null}\n"), params=params
    )
    assert "teacher-seq_inter" not in load.params(params).finetune
    assert Change("finetune.teacher-seq_inter.init_from", "teacher", None) in changes


def test_overlays_of_external_teachers_train_none(params: Path) -> None:
    for path in OVERLAYS:
        fresh = Path(shutil.copy(ROOT / "params.yaml", params))
        overlay.apply(path, params=fresh)
        assert load.params(fresh).trains_teacher != path.stem.startswith("external-")


def test_overlays_of_the_paper_have_the_papers_settings(params: Path) -> None:
    sizes = {}
    for name in ("wmt14-en-de", "ted-th-en"):
        overlay.apply(ROOT / "configs" / f"{name}.yaml", params=params)
        used = load.params(params)
        sizes[name] = (used.teacher.size, used.student.size, used.data.source, used.data.target)
        optim = used.optim
        rows = (optim.teacher, optim.student, optim.finetune, optim.retrain)
        assert [row.learning_rate for row in rows] == [1.0, 1.0, 0.1, 0.2]
        scratch = optim.teacher.model_dump()
        assert scratch == optim.student.model_dump()
        assert {"optimizer": "sgd", "schedule": "halve", "epochs": 13}.items() <= scratch.items()
        assert {"batch_size": 64, "max_grad_norm": 5.0, "start_decay_epoch": 9}.items() <= scratch.items()
        assert scratch["loss_normalization"] == "sentences"
    assert sizes == {"wmt14-en-de": ("4x1000", "2x500", "en", "de"), "ted-th-en": ("2x500", "2x100", "th", "en")}


def test_overlay_changes_only_the_lines_that_it_names(params: Path) -> None:
    before = params.read_text("utf-8").splitlines()
    changes = overlay.apply(_overlay(params, "seed: 99\nstudent: {dropout: 0.25}\n"), params=params)
    old = load.params(ROOT / "params.yaml")
    assert changes == [Change("seed", old.seed, 99), Change("student.dropout", old.student.dropout, 0.25)]
    compared = list(difflib.ndiff(before, params.read_text("utf-8").splitlines()))
    assert sum(line.startswith("+ ") for line in compared) == sum(line.startswith("- ") for line in compared) == 2
    assert load.params(params).student.model_dump() == old.student.model_dump() | {"dropout": 0.25}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("student: {widht: 3}\n", "student.widht is not a known key; remove it or correct its spelling."),
        ("student: 2x64\n", "student is '2x64'; it must be a section with keys, as in params.yaml."),
        ("student: {size: 64}\n", "student.size is 64; it must be a valid string."),
        ("prune: {model: nobody}\n", "prune.model is 'nobody'; it must be one of "),
        ("- seed\n", "(the whole file) is ['seed']; it must be keys with values."),
    ],
)
def test_overlay_that_would_not_be_valid_is_refused_and_changes_nothing(params: Path, text: str, message: str) -> None:
    before = params.read_bytes()
    path = _overlay(params, text)
    with pytest.raises(InputError) as error:
        overlay.apply(path, params=params)
    assert str(error.value).startswith(f"{path}: {message}")
    assert params.read_bytes() == before
    assert sorted(params.parent.iterdir()) == [path, params]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("optim: {student: {learning_rate: 0.5}}\n", "optim.teacher.learning_rate", "0.5"),
        ("optim: {teacher: {beta2: 0.5}}\n", "optim.student.beta2", "0.5"),
        (
            "optim: {teacher: {learning_rate: 0.5}, student: {learning_rate: 0.25}}\n",
            "optim.teacher.learning_rate",
            "0.25",
        ),
    ],
)
def test_overlay_of_a_key_that_an_alias_joins_to_another_is_refused_unless_it_names_both(
    params: Path, text: str, key: str, value: str
) -> None:
    written = params.read_text("utf-8").replace("  teacher: {optimizer", "  teacher: &scratch {optimizer")
    params.write_text(re.sub(r"  student: \{optimizer.*\}", "  student: *scratch", written), "utf-8")
    before = params.read_bytes()
    with pytest.raises(InputError) as error:
        overlay.apply(_overlay(params, text), params=params)
    assert str(error.value) == (
        f"{params}: {key} shares its value by an alias (& and *) and would become {value} too; write the values out."
    )
    assert params.read_bytes() == before
    both = "optim: {teacher: {learning_rate: 0.5}, student: {learning_rate: 0.5}}\n"
    rate = load.params(params).optim.teacher.learning_rate
    changes = [Change(f"optim.{row}.learning_rate", rate, 0.5) for row in ("teacher", "student")]
    assert overlay.apply(_overlay(params, both), params=params) == changes
    optim = load.params(params).optim
    assert optim.teacher.learning_rate == optim.student.learning_rate == 0.5


def test_overlay_that_is_absent_or_broken_is_refused(params: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        overlay.apply(params.with_name("none.yaml"), params=params)
    path = _overlay(params, "seed: 1\nstudent: {\n")
    with pytest.raises(InputError, match=r"own\.yaml, line 3: not valid YAML; correct the syntax there\."):
        overlay.apply(path, params=params)


def test_use_prints_what_changed(params: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _overlay(params, "seed: 99\nspeed: {rounds: 77}\n")
    old = load.params(params)
    use.main(file=path, params=params)
    use.main(file=path, params=params)
    assert capsys.readouterr().out.splitlines() == [
        f"seed: {old.seed} -> 99",
        f"speed.rounds: {old.speed.rounds} -> 77",
        f"{params}: 2 settings changed",
        f"{params} is already so; nothing changed",
    ]
