"""The first three minutes: every step is taken, in an empty folder, and nothing else is touched."""

from importlib import resources
from pathlib import Path

import pytest

from seqkd.config import load, schema
from seqkd.config.machine import Machine
from seqkd.demo import tryout
from seqkd.models import checkpoint
from seqkd.utils.errors import InputError

TINY = "kind: grammar\npairs: 60\ndev: 5\ntest: 8\n"
SETTINGS = Path(str(resources.files("seqkd.demo").joinpath("try.yaml")))


def tiny(recipe: Path) -> schema.Params:
    """The settings of try.yaml, cut down to a few pairs and one epoch."""
    params = load.params(SETTINGS)
    epoch = {name: getattr(params.optim, name).model_copy(update={"epochs": 1}) for name in ("teacher", "student")}
    return params.model_copy(
        update={
            "data": params.data.model_copy(update={"corpus": str(recipe)}),
            "vocab": params.vocab.model_copy(update={"size": 330}),
            "teacher": params.teacher.model_copy(update={"size": "1x16"}),
            "student": params.student.model_copy(update={"size": "1x8"}),
            "optim": params.optim.model_copy(update=epoch),
        }
    )


@pytest.mark.slow
def test_try_makes_a_teacher_and_a_student_and_tells_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "tiny.yaml").write_text(TINY)
    machine = Machine(device="cpu", processes=1)
    tried = tryout.run_all(tmp_path / "new", machine, params=tiny(tmp_path / "tiny.yaml"))
    assert [model.name for model in tried.models] == ["teacher", "student"]
    assert [checkpoint.load(model).network.shape.hidden for model in tried.models] == [16, 8]
    printed = capsys.readouterr().out
    assert [f"{step}/5  " in printed for step in range(1, 6)] == [True] * 5
    assert printed.count("BLEU") == 2
    assert tried.examples
    assert list((tmp_path / "here").iterdir()) == []
    assert Path.cwd() == tmp_path / "here"


def test_try_leaves_a_folder_that_holds_something_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="is not an empty folder; name a new one"):
        tryout.run_all(tmp_path, Machine(device="cpu", processes=1))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
