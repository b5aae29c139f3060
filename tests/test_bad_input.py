"""Bad input on the command line: one sentence with the file or key and the remedy, and nothing written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bad_inputs import CASES, FINE
from bad_project import ENGLISH, GERMAN, SETTINGS, TRANSLATE, Case, joined

from seqkd import cli
from seqkd.data import bitext, nbest, vocab
from seqkd.data.bitext import Pair
from seqkd.data.nbest import Hypothesis
from seqkd.models import checkpoint, lstm
from seqkd.models.checkpoint import Model

pytestmark = pytest.mark.slow


def _fresh(pieces: vocab.Vocab, *, hidden: int = 8) -> Model:
    network = lstm.LSTMNetwork(lstm.NetworkShape(pieces.size, 1, hidden, 0.1))
    network.init_weights(torch.Generator().manual_seed(1))
    return Model(network, pieces, None)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project after its first stages; another vocabulary of the same size beside it."""
    root = tmp_path_factory.mktemp("template")
    (root / "own").mkdir()
    (root / "params.yaml").write_text(SETTINGS)
    (root / "machine.yaml").write_text("processes: 1\ndevice: cpu\n")
    (root / "own/train.en").write_bytes(joined(ENGLISH))
    (root / "own/train.de").write_bytes(joined(GERMAN))
    pairs = [Pair(number, *pair) for number, pair in enumerate(zip(ENGLISH, GERMAN, strict=True))]
    bitext.write(root / "text/reference.tsv", pairs)
    bitext.write(root / "text/best.tsv", pairs)
    bitext.write(root / "corpus/dev.tsv", pairs[:3])
    bitext.write(root / "corpus/test.tsv", pairs[:3])
    (root / "corpus/about.json").write_text("{}")
    pieces = vocab.train([*ENGLISH, *GERMAN], root / "vocab/joint.model", size=60)
    vocab.train([*(text.upper() for text in ENGLISH), *GERMAN], root / "vocab/other.model", size=60)
    for name in ("teacher", "baseline", "whole", "later"):
        checkpoint.save(root / "models" / name, _fresh(pieces), card="")
    entries = [(pair, [Hypothesis(tuple(pieces.encode(pair.target)), -1.0, True)]) for pair in pairs]
    nbest.write_part(root / "nbest/k5", 0, entries)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    shutil.copytree(template, root)
    monkeypatch.chdir(root)
    return root


def tree(root: Path) -> dict[str, bytes | None]:
    """Every file with its bytes, every folder and every link to nothing with None."""
    paths = root.rglob("*")
    return {path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None for path in paths}


def seqkd(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["seqkd", *command.split()])
    try:
        return cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_stages_refuse_bad_input_in_one_sentence_and_write_nothing(
    case: Case, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case.change(project)
    before = tree(project.parent)
    code = seqkd(case.command, monkeypatch)
    printed = capsys.readouterr()
    assert case.expected in printed.err, printed.err
    assert code == case.code
    assert "Traceback" not in printed.err
    assert tree(project.parent) == before
    if code == 1:
        stage = case.command.split()[0]
        assert printed.err.startswith(f"seqkd {stage}: ")
        assert printed.err.count("\n") == 1
        assert printed.err.endswith((".\n", "?\n"))
        assert len(printed.err) < 500
        assert not printed.out


@pytest.mark.parametrize("case", FINE, ids=[case.name for case in FINE])
def test_input_that_only_looks_wrong_works(case: Case, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case.change(project)
    assert seqkd(case.command, monkeypatch) in (0, None)


def test_closed_standard_input_is_refused_in_one_sentence(project: Path) -> None:
    command = f'exec "{sys.executable}" -m seqkd {TRANSLATE} <&-'
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parent.parent)}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "seqkd translate: standard input is closed or cannot be read; pipe text into it.\n"


def test_cases_are_many_and_each_has_its_own_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40
