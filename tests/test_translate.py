"""seqkd translate: a line out for each line in, in order, as they come."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seqkd import checkpoint, config, model, translator, vocab
from seqkd.checkpoint import Model

TEXT = ["the cat sat on the mat", "a dog ran", "", "the dog sat", "a cat ran on the mat", "the mat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt nothing: what it says is its own, but the same each time."""
    path = tmp_path_factory.mktemp("model")
    pieces = vocab.train([*TEXT, "der Kater saß auf der Matte"] * 3, path / "joint.model", size=40)
    network = model.Network(model.Shape(pieces.size, 1, 16, 0.0))
    network.start(torch.Generator().manual_seed(1), spread=2.0)
    checkpoint.save(path / "m", Model(network, pieces, None), card="")
    return path / "m"


def said(folder: Path, text: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "seqkd", "translate", "--model", str(folder), *options]
    return subprocess.run(command, input=text, capture_output=True, check=False)


def test_lines_come_out_in_order_whatever_the_processes(folder: Path) -> None:
    one = said(folder, "\n".join(TEXT).encode())
    two = said(folder, ("\n".join(TEXT) + "\n").encode(), "--threads", "2")
    assert one.returncode == 0
    assert one.stdout == two.stdout
    lines = one.stdout.decode().splitlines()
    assert len(lines) == len(TEXT)
    assert lines[2] == ""
    expected = translator.best(folder, TEXT, beam=5, machine=config.Machine(workers=1))
    pieces = checkpoint.load(folder).vocab
    assert lines == [pieces.decode(hypothesis.ids) for hypothesis in expected]


def test_a_line_is_answered_before_the_next_one_comes(folder: Path) -> None:
    command = [sys.executable, "-m", "seqkd", "translate", "--model", str(folder), "--beam", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for line in ("a dog ran\n", "the dog sat\n"):
            running.stdin.write(line.encode())
            running.stdin.flush()
            assert running.stdout.readline().endswith(b"\n")
        running.stdin.close()
    assert running.returncode == 0


def test_bad_bytes_and_an_absent_model_are_told_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    bad = said(folder, b"a dog ran\n\xff\n")
    assert bad.returncode == 1
    assert b"line 2: not UTF-8" in bad.stderr
    assert b"Traceback" not in bad.stderr
    absent = said(tmp_path / "nothing", b"")
    assert absent.returncode == 1
    assert absent.stderr.count(b"\n") == 1
