"""A small project of made-up text, the commands run in it, and what can be done to its files before one."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from seqkd.data import bitext, nbest, vocab
from seqkd.data.bitext import Pair
from seqkd.data.nbest import Hypothesis
from seqkd.models import checkpoint

SETTINGS = """\
seed: 1
precision: fp32
data: {corpus: own, source: en, target: de, max_tokens: 60}
vocab: {size: 60}
teacher: {size: 1x8, dropout: 0.1}
student: {size: 1x8, dropout: 0.1}
optim:
  teacher: &scratch {method: adam, rate: 0.01, schedule: constant, epochs: 1, batch: 16}
  student: *scratch
  tune: *scratch
  retrain: *scratch
decode:
  k5: {beam: 5}
select:
  best: {nbest: k5, pick: score}
distill:
  whole: {text: best, alpha: 0.0}
finetune:
  later: {text: best, init: whole, alpha: 0.5}
prune: {model: later, ratios: [0.5], retrain: best, finetune: gold}
evaluate: {beams: [1]}
speed: {models: [teacher], sentences: 3, rounds: 1}
"""
ENGLISH = [f"the house number {number} is old" for number in range(40)]
GERMAN = [f"das Haus Nummer {number} ist alt" for number in range(40)]

VALIDATE = "validate --out settings.txt"
PREPROCESS = "preprocess --reference text/reference.tsv --out corpus --downloads downloads"
VOCAB = "vocab --text text/reference.tsv --out vocab/joint.model"
TRANSLATE = "translate --model models/teacher"
TRAIN = (
    "train baseline --role student --text text/reference.tsv --corpus corpus --vocabulary vocab/joint.model"
    " --curve curves/baseline.csv --out models/baseline"
)
SELECT = (
    "select best --lists nbest --reference text/reference.tsv --vocab vocab/joint.model --texts text --audits audits"
)
FINETUNE = "finetune later --teacher models/teacher --texts text --corpus corpus --curves curves --models models"
PRUNE = "prune 0.5 --texts text --corpus corpus --curves curves --models models"
EXPORT = "export --model models/teacher --out"
EVALUATE = "evaluate baseline --models models --test corpus/test.tsv --translations said --out scores"


def joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


Change = Callable[[Path], object]


class Case(NamedTuple):
    name: str
    change: Change  # what is done to the project before the command
    command: str
    said: str  # must stand in what is printed
    code: int = 1


def settings(old: str, new: str) -> Change:
    """old in params.yaml becomes new."""
    assert old in SETTINGS
    return lambda root: (root / "params.yaml").write_text(SETTINGS.replace(old, new, 1), encoding="utf-8")


def file(name: str, content: bytes) -> Change:
    return lambda root: (root / name).write_bytes(content)


def packed(content: bytes, *, cut: int = 0) -> Change:
    """The German side as .gz, without its last bytes."""

    def change(root: Path) -> None:
        (root / "own/train.de").unlink()
        whole = gzip.compress(content, 1)
        (root / "own/train.de.gz").write_bytes(whole[: len(whole) - cut])

    return change


def both(english: list[str], german: list[str]) -> Change:
    def change(root: Path) -> None:
        file("own/train.en", joined(english))(root)
        file("own/train.de", joined(german))(root)

    return change


def nothing(root: Path) -> None:
    pass


def shape(**values: object) -> Change:
    def change(root: Path) -> None:
        path = root / "models/teacher/shape.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def weights(change_them: Callable[[dict[str, torch.Tensor]], object], model: str = "teacher") -> Change:
    def change(root: Path) -> None:
        path = root / f"models/{model}/weights.safetensors"
        tensors = {name: value.clone() for name, value in load_file(path).items()}
        with safe_open(path, "pt") as file:
            about = file.metadata()
        change_them(tensors)
        save_file(tensors, path, metadata=about)

    return change


def pack(tensors: dict[str, torch.Tensor]) -> None:
    """One tensor as a pruned model's file holds each."""
    value = tensors.pop("combine").flatten()
    tensors["combine.values"] = value
    tensors["combine.kept"] = torch.from_numpy(np.packbits(np.ones(len(value), bool)))


def folder_for(name: str) -> Change:
    """A folder in a file's place."""
    return lambda root: ((root / name).rename(root / "moved"), shutil.copytree(root / "text", root / name))


def other_vocabulary(root: Path) -> None:
    shutil.copy(root / "vocab/other.model", root / "models/teacher/vocab.model")


def other_teacher(root: Path) -> None:
    """A whole model, of another vocabulary of the same size."""
    pieces = vocab.load(root / "vocab/other.model")
    checkpoint.save(root / "models/teacher", checkpoint.load(root / "models/teacher")._replace(vocab=pieces), card="")


def listed(old: bytes, new: bytes) -> Change:
    """old in the teacher's list becomes new."""

    def change(root: Path) -> None:
        path = root / "nbest/k5/part-00000.tsv.gz"
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(old, new)))

    return change


def cut(name: str) -> Change:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-40])


def ids(found: list[tuple[int, tuple[int, ...]]]) -> Change:
    """Another list of the teacher's, its ids and pieces."""

    def change(root: Path) -> None:
        shutil.rmtree(root / "nbest/k5")
        gold = bitext.read(root / "text/reference.tsv")
        lists = [
            (Pair(line, pair.source, ""), [Hypothesis(pieces, -1.0, True)])
            for (line, pieces), pair in zip(found, gold, strict=False)
        ]
        nbest.write_part(root / "nbest/k5", 0, lists)

    return change


def keyed(name: str, old: str, new: str, said: str) -> Case:
    """A mistake in params.yaml that validate finds."""
    return Case(name, settings(old, new), VALIDATE, f"params.yaml: {said}")
