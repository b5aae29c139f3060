"""A small project of made-up text, the commands run in it, and the changes made to its files before a command."""

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
data: {corpus: own, source: en, target: de, max_length: 60, tidy: false}
vocab: {size: 60, byte_fallback: false}
teacher: {size: 1x8, dropout: 0.1}
student: {size: 1x8, dropout: 0.1}
optim:
  teacher: &scratch {optimizer: adam, learning_rate: 0.01, schedule: constant, epochs: 1, batch_size: 16}
  student: *scratch
  finetune: *scratch
  retrain: *scratch
teachers: {}
decode:
  k5: {beam: 5}
select:
  best: {nbest: k5, metric: score}
mix: {}
distill:
  whole: {train_text: best, alpha: 0.0}
finetune:
  later: {train_text: best, init_from: whole, alpha: 0.5}
prune: {model: later, ratios: [0.5], retrain: best, finetune: reference}
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
    change: Change  # made to the project before the command
    command: str
    expected: str  # must be part of what is printed
    code: int = 1


def settings(old: str, new: str) -> Change:
    """Replace old in params.yaml by new."""
    assert old in SETTINGS
    return lambda root: (root / "params.yaml").write_text(SETTINGS.replace(old, new, 1), encoding="utf-8")


def file(name: str, content: bytes) -> Change:
    return lambda root: (root / name).write_bytes(content)


def link(name: str, to: str) -> Change:
    return lambda root: (root / name).symlink_to(to)


def packed(content: bytes, *, cut: int = 0) -> Change:
    """Write the German side as .gz, without its last `cut` bytes."""

    def change(root: Path) -> None:
        (root / "own/train.de").unlink()
        compressed = gzip.compress(content, 1)
        (root / "own/train.de.gz").write_bytes(compressed[: len(compressed) - cut])

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


def weights(edit: Callable[[dict[str, torch.Tensor]], object], model: str = "teacher") -> Change:
    def change(root: Path) -> None:
        path = root / f"models/{model}/weights.safetensors"
        tensors = {name: value.clone() for name, value in load_file(path).items()}
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        edit(tensors)
        save_file(tensors, path, metadata=metadata)

    return change


def pack(tensors: dict[str, torch.Tensor]) -> None:
    """Store one tensor as the file of a pruned model stores each."""
    value = tensors.pop("combine").flatten()
    tensors["combine.values"] = value
    tensors["combine.kept"] = torch.from_numpy(np.packbits(np.ones(len(value), bool)))


def folder_for(name: str) -> Change:
    """Put a folder in the place of a file."""
    return lambda root: ((root / name).rename(root / "moved"), shutil.copytree(root / "text", root / name))


def other_vocabulary(root: Path) -> None:
    shutil.copy(root / "vocab/other.model", root / "models/teacher/vocab.model")


def other_teacher(root: Path) -> None:
    """Save a whole model of another vocabulary of the same size."""
    pieces = vocab.load(root / "vocab/other.model")
    checkpoint.save(root / "models/teacher", checkpoint.load(root / "models/teacher")._replace(vocab=pieces), card="")


def listed(old: bytes, new: bytes) -> Change:
    """Replace old in the teacher's n-best list by new."""

    def change(root: Path) -> None:
        path = root / "nbest/k5/part-00000.tsv.gz"
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(old, new)))

    return change


def cut(name: str) -> Change:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-40])


def ids(entries: list[tuple[int, tuple[int, ...]]]) -> Change:
    """Write another n-best list of the teacher, with these ids and pieces."""

    def change(root: Path) -> None:
        shutil.rmtree(root / "nbest/k5")
        pairs = bitext.read(root / "text/reference.tsv")
        lists = [
            (Pair(line, pair.source, ""), [Hypothesis(pieces, -1.0, True)])
            for (line, pieces), pair in zip(entries, pairs, strict=False)
        ]
        nbest.write_part(root / "nbest/k5", 0, lists)

    return change


def keyed(name: str, old: str, new: str, expected: str) -> Case:
    """Return a case with a mistake in params.yaml, which validate finds."""
    return Case(name, settings(old, new), VALIDATE, f"params.yaml: {expected}")
