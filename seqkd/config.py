"""params.yaml and machine.yaml as frozen records; a key that is unknown, missing or mistyped is refused by name."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from seqkd.errors import InputError

Ratio = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Data(Record):
    corpus: str  # a recipe (*.yaml), a folder, or one tab-separated file
    source: str  # language code, as in the corpus's file names
    target: str
    max_tokens: Positive  # pieces a side; longer training pairs are left out


class Vocab(Record):
    size: Annotated[int, Field(ge=16)]  # joint pieces of both languages


class Network(Record):
    size: str  # LxH: layers x hidden units, the paper's notation
    dropout: Ratio  # on the input of layers >= 2 and on the attentional vector
    spread: Annotated[float, Field(gt=0)] = 0.1  # weights start uniform in (-spread, spread); the paper: 0.1
    embedding_spread: Annotated[float, Field(gt=0)] = 0.1  # those of the two embeddings

    @field_validator("size")
    @classmethod
    def _notation(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", value):
            raise ValueError("must be LAYERSxUNITS, such as 2x500")
        return value

    @property
    def layers(self) -> int:
        return int(self.size.split("x")[0])

    @property
    def hidden(self) -> int:
        return int(self.size.split("x")[1])


class Optim(Record):
    method: Literal["adam", "sgd"]
    rate: Annotated[float, Field(gt=0)]  # the highest learning rate
    schedule: Literal["cosine", "constant", "halve"]  # halve: the paper's rule (section 4.1 of Kim & Rush)
    epochs: Positive  # passes over the text
    batch: Positive  # sentences an update
    clip: Annotated[float, Field(gt=0)] = 5.0  # largest norm of the gradient
    warmup: Annotated[int, Field(ge=0)] = 100  # updates of linearly rising rate
    halve_from: Positive = 9  # halve: the first epoch whose rate is halved at the latest
    patience: Annotated[int, Field(ge=0)] = 0  # epochs without a better dev perplexity before stopping; 0: never
    keep: Literal["last", "best"] = "last"  # best: the epoch of the lowest dev perplexity
    loss_per: Literal["word", "sentence"] = "word"  # what the summed loss is divided by; the paper: sentence


class OptimTable(Record):
    teacher: Optim
    student: Optim  # every row that starts from random weights
    tune: Optim  # every row that starts from a trained model
    retrain: Optim  # after pruning


class Search(Record):
    beam: Positive
    normalise: Share = 0.0  # score = log-probability / length ** normalise; 0: the paper's raw sum


class Select(Record):
    nbest: Name  # a row of decode
    pick: Literal["score", "bleu", "chrf"]
    smoothing: Literal["none", "floor", "add-k", "exp"] = "add-k"  # of sentence BLEU (Chen & Cherry 2014)
    smoothing_value: Annotated[float, Field(ge=0)] = 1.0  # the k of add-k, the floor of floor


class Distill(Record):
    text: Name  # gold, or a row of select
    alpha: Share  # weight of Word-KD against NLL


class Finetune(Distill):
    init: Name  # the model it starts from


class Prune(Record):
    model: Name
    ratios: list[Ratio]
    retrain: Name
    finetune: Name


class Evaluate(Record):
    beams: Annotated[list[Positive], Field(min_length=1)]
    normalise: Share = 0.0


class Speed(Record):
    models: Annotated[list[Name], Field(min_length=1)]  # whose words per second Table 2 shows
    sentences: Positive  # the first of the test set
    rounds: Positive  # alternating over the models; the median counts


class Params(Record):
    seed: Annotated[int, Field(ge=0)]
    precision: Literal["fp32", "bf16"]  # of large products while training and decoding; bf16: inputs rounded, sums fp32
    data: Data
    vocab: Vocab
    teacher: Network
    student: Network
    optim: OptimTable
    decode: dict[Name, Search]
    select: dict[Name, Select]
    distill: dict[Name, Distill]
    finetune: dict[Name, Finetune]
    prune: Prune
    evaluate: Evaluate
    speed: Speed

    @property
    def models(self) -> list[str]:
        """Every unpruned model in the order of the paper's Table 1."""
        return ["teacher", *self._rows("teacher"), "baseline", *self.distill, *self._rows("student")]

    def _rows(self, role: str) -> list[str]:
        return [row for row in self.finetune if self.role(row) == role]

    def role(self, model: str) -> Literal["teacher", "student"]:
        """Whose size a model has: that of the model its chain of starting models ends in."""
        seen: set[str] = set()
        while model in self.finetune and model not in seen:
            seen.add(model)
            model = self.finetune[model].init
        return "teacher" if model == "teacher" else "student"


class Overlay(Record):
    """Some of the keys of params.yaml, checked once they are merged."""

    model_config = ConfigDict(extra="allow")


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Machine(Record):
    """What describes this machine and changes no result's meaning; machine.yaml, absent: all cores."""

    workers: Positive = Field(default_factory=_cores)  # processes of one thread each
    device: Literal["auto", "cpu", "cuda"] = "auto"
    products: Literal["auto", "mkl", "onednn"] = "auto"  # the library of fp32 matrix products on a CPU


R = TypeVar("R", bound=Record)


def parse(record: type[R], values: object, *, where: str) -> R:
    """values as a record; InputError names the first key at fault and the mend."""
    try:
        return record.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(the whole file)"
        text = {
            "extra_forbidden": "is not a known key; remove it or correct its spelling",
            "missing": "is missing; add it",
        }.get(first["type"], f"is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}")
        raise InputError(f"{where}: {key} {text}.") from None


def read(path: Path, record: type[R]) -> R:
    """A YAML file as a record. Raises InputError for a file that is absent, not YAML or not such a record."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run this in the project's folder.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = (
            f", line {error.problem_mark.line + 1}"
            if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark
            else ""
        )
        raise InputError(f"{path}{line}: not valid YAML; correct the syntax there.") from None
    return parse(record, values if values is not None else {}, where=str(path))


def params(path: Path = Path("params.yaml")) -> Params:
    """The settings, with every name that a row mentions checked against the rows it may name."""
    return checked(read(path, Params), where=str(path))


def checked(found: Params, *, where: str) -> Params:
    """The same settings. Raises InputError for a name in a row that no row has which it may name."""
    texts, starts = {"gold", *found.select}, {"teacher", "baseline", *found.distill, *found.finetune}
    named: list[tuple[str, str, set[str]]] = [
        *((f"select.{row}.nbest", item.nbest, set(found.decode)) for row, item in found.select.items()),
        *((f"distill.{row}.text", item.text, texts) for row, item in found.distill.items()),
        *((f"finetune.{row}.text", item.text, texts) for row, item in found.finetune.items()),
        *((f"finetune.{row}.init", item.init, starts - {row}) for row, item in found.finetune.items()),
        *(("speed.models", name, starts) for name in found.speed.models),
        ("prune.model", found.prune.model, starts),
        ("prune.retrain", found.prune.retrain, texts),
        ("prune.finetune", found.prune.finetune, texts),
    ]
    for key, value, allowed in named:
        if value not in allowed:
            raise InputError(f"{where}: {key} is {value!r}; it must be one of {', '.join(sorted(allowed))}.")
    return found


def row(table: dict[str, R], name: str, *, section: str) -> R:
    """A row of a section of params.yaml. Raises InputError, with the rows there are, for another name."""
    if name not in table:
        raise InputError(f"params.yaml: {section} has no row {name!r}; name one of {', '.join(table)}, or add it.")
    return table[name]


def machine(path: Path = Path("machine.yaml")) -> Machine:
    return read(path, Machine) if path.exists() else Machine()


__all__ = ["Machine", "Network", "Optim", "Params", "checked", "machine", "params", "parse", "read"]
