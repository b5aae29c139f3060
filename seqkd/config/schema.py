"""params.yaml and machine.yaml as frozen records; a key that is unknown, missing or mistyped is refused by name."""

import os
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from seqkd.config import yaml_file
from seqkd.utils.errors import InputError

T = TypeVar("T")


def _formed(pattern: str, said: str) -> AfterValidator:
    """Refuses a text of another form; said: the form in words."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {said}")
        return value

    return AfterValidator(check)


def _once(values: list[T]) -> list[T]:
    if any(value in values[:at] for at, value in enumerate(values)):
        raise ValueError("must hold each value once")
    return values


Ratio = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Range = Annotated[float, Field(gt=0, le=100)]
# A name becomes part of paths, so it can lead nowhere else; 64 leaves room for what stages add to it.
Name = Annotated[str, _formed(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "at most 64 letters, digits, _ and -, such as seq-2")]
Language = Annotated[str, _formed(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*", "a language's code, such as de or pt_BR")]
Size = Annotated[str, _formed(r"[1-9][0-9]?x[1-9][0-9]{0,4}", "LAYERSxUNITS, such as 2x500, at most 99x99999")]


MIN_VOCAB_SIZE = 16  # of a vocabulary, at least


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSettings(Record):
    corpus: Annotated[str, Field(min_length=1)]  # a recipe (*.yaml), a folder, or one tab-separated file
    source: Language  # as in the corpus's file names
    target: Language
    max_length: Positive  # pieces a side; longer training pairs are left out


class VocabSettings(Record):
    size: Annotated[int, Field(ge=MIN_VOCAB_SIZE, le=1_000_000)]  # joint pieces of both languages


class NetworkSettings(Record):
    size: Size  # LxH: layers x hidden units, the paper's notation
    dropout: Ratio  # on the input of layers >= 2 and on the attentional vector
    init_range: Range = 0.1  # weights start uniform in (-spread, spread); the paper: 0.1
    embedding_init_range: Range = 0.1  # those of the two embeddings

    @property
    def layers(self) -> int:
        return int(self.size.split("x")[0])

    @property
    def hidden(self) -> int:
        return int(self.size.split("x")[1])


class OptimizerSettings(Record):
    optimizer: Literal["adam", "sgd"]
    learning_rate: Annotated[float, Field(gt=0)]  # the highest learning rate
    schedule: Literal["cosine", "constant", "halve"]  # halve: the paper's rule (section 4.1 of Kim & Rush)
    epochs: Positive  # passes over the text
    batch_size: Positive  # sentences an update
    max_grad_norm: Annotated[float, Field(gt=0)] = 5.0  # largest norm of the gradient
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999  # adam: of the mean of squares, which forgets sooner with less
    warmup_steps: Annotated[int, Field(ge=0)] = 100  # updates of linearly rising rate
    start_decay_epoch: Positive = 9  # halve: the first epoch whose rate is halved at the latest
    patience: Annotated[int, Field(ge=0)] = 0  # epochs without a better dev perplexity before stopping; 0: never
    keep_checkpoint: Literal["last", "best"] = "last"  # best: the epoch of the lowest dev perplexity
    loss_normalization: Literal["tokens", "sentences"] = (
        "tokens"  # what the summed loss is divided by; the paper: sentence
    )
    shards: Positive = 2  # of a batch, each with its own dropout; at most so many processes work on an update


class OptimizerTable(Record):
    teacher: OptimizerSettings
    student: OptimizerSettings  # every row that starts from random weights
    finetune: OptimizerSettings  # every row that starts from a trained model
    retrain: OptimizerSettings  # after pruning


class DecodeSettings(Record):
    beam: Annotated[int, Field(ge=1, le=10_000)]
    length_penalty: Share = 0.0  # score = log-probability / length ** normalise; 0: the paper's raw sum


class SelectSettings(Record):
    nbest: Name  # a row of decode
    metric: Literal["score", "bleu", "chrf"]
    smoothing: Literal["none", "floor", "add-k", "exp"] = "add-k"  # of sentence BLEU (Chen & Cherry 2014)
    smoothing_value: Annotated[float, Field(ge=0)] = 1.0  # the k of add-k, the floor of floor


class DistillSettings(Record):
    train_text: Name  # reference, or a row of select
    alpha: Share  # weight of Word-KD against NLL
    top_k: Annotated[int, Field(ge=0)] = 0  # words of the teacher's distribution Word-KD keeps; 0: all, exactly


class FinetuneSettings(DistillSettings):
    init_from: Name  # the model it starts from


class PruneSettings(Record):
    model: Name
    ratios: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], AfterValidator(_once)]
    retrain: Name
    finetune: Name


class EvaluateSettings(Record):
    beams: Annotated[list[Annotated[int, Field(ge=1, le=10_000)]], Field(min_length=1), AfterValidator(_once)]
    length_penalty: Share = 0.0


class SpeedSettings(Record):
    models: Annotated[list[Name], Field(min_length=1), AfterValidator(_once)]  # whose words per second Table 2 shows
    sentences: Positive  # the first of the test set
    rounds: Positive  # alternating over the models; the median counts


class Params(Record):
    seed: Annotated[int, Field(ge=0, lt=1 << 32)]
    precision: Literal["fp32", "bf16"]  # of matrix products; bf16: inputs are rounded, sums are fp32
    data: DataSettings
    vocab: VocabSettings
    teacher: NetworkSettings
    student: NetworkSettings
    optim: OptimizerTable
    decode: dict[Name, DecodeSettings]
    select: dict[Name, SelectSettings]
    distill: dict[Name, DistillSettings]
    finetune: dict[Name, FinetuneSettings]
    prune: PruneSettings
    evaluate: EvaluateSettings
    speed: SpeedSettings

    @property
    def models(self) -> list[str]:
        """Every unpruned model in the order of the paper's Table 1."""
        return ["teacher", *self._rows("teacher"), "baseline", *self.distill, *self._rows("student")]

    @property
    def pruned(self) -> dict[str, float]:
        """Each pruned model's name and the share of its weights that is gone."""
        return {f"prune-{ratio}": ratio for ratio in self.prune.ratios}

    def _rows(self, role: str) -> list[str]:
        return [row for row in self.finetune if self.role(row) == role]

    def role(self, model: str) -> Literal["teacher", "student"]:
        """Whose size a model has: that of the model its chain of starting models ends in."""
        seen: set[str] = set()
        while model in self.finetune and model not in seen:
            seen.add(model)
            model = self.finetune[model].init_from
        return "teacher" if model == "teacher" else "student"


class Overlay(Record):
    """Some of the keys of params.yaml, checked once they are merged."""

    model_config = ConfigDict(extra="allow")


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Machine(Record):
    """What describes this machine and changes no result's meaning; machine.yaml, absent: all cores."""

    processes: Annotated[int, Field(ge=1, le=1024)] = Field(default_factory=_cores)  # processes of one thread each
    checkpoint_interval: Annotated[float, Field(ge=0)] = 50.0  # seconds of training that a kill may cost
    device: Literal["auto", "cpu", "cuda"] = "auto"
    matmul_backend: Literal["auto", "own", "torch"] = (
        "auto"  # whose matrix products on a CPU, but those of a step over time
    )
    max_batch_hypotheses: Positive = (
        1500  # hypotheses that a worker's search holds at once, on a GPU up to ten times as many
    )


R = TypeVar("R", bound=Record)


def parse(record: type[R], values: object, *, where: str, mend: str = "") -> R:
    """values as a record; InputError names the first key at fault and the mend, another one where mend says so."""
    try:
        return record.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place, value = list(first["loc"]), reprlib.repr(first["input"])
        named = place[-1:] == ["[key]"]  # a row's name is at fault, not what it holds
        key = ".".join(map(_plain, place[:-2] if named else place)) or "(the whole file)"
        wanted = re.sub(r"^\w+ should ", "must ", first["msg"].removeprefix("Value error, "))
        wanted = re.sub(r"be a valid dictionary( or instance of \w+)?", "be keys with values", wanted)
        wanted = wanted.replace(" after validation", "")
        fault, own = {
            "extra_forbidden": ("is not a known key", "remove it or correct its spelling"),
            "missing": ("is missing", "add it"),
        }.get(first["type"], (f"{'has the key' if named else 'is'} {value}", f"it {wanted}"))
        raise InputError(f"{where}: {key} {fault}; {mend or own}.") from None


def _plain(part: int | str) -> str:
    """A key as it may stand in a sentence of one line."""
    return str(part) if len(str(part)) <= 64 and str(part).isprintable() else reprlib.repr(part)


def load(path: Path, record: type[R]) -> R:
    """A YAML file as a record. Raises InputError for a file that is absent, not YAML or not such a record."""
    return parse(record, yaml_file.read(path), where=str(path))


def load_params(path: Path = Path("params.yaml")) -> Params:
    """The settings, with every name that a row mentions checked against the rows it may name."""
    return check_names(load(path, Params), where=str(path))


def check_names(found: Params, *, where: str) -> Params:
    """The same settings.

    Raises InputError where two rows would write the same folder, a row names what no row is, or rows start in a circle.
    """
    if found.data.source == found.data.target:
        raise InputError(f"{where}: data.source and data.target are both {found.data.source!r}; name two languages.")
    _apart(found, where)
    _known(found, where)
    for row in found.finetune:
        met = [row]
        while (start := found.finetune[met[-1]].init_from) in found.finetune:
            if start in met:
                circle = " from ".join([*met, start])
                raise InputError(
                    f"{where}: finetune.{row}.init_from: a circle, {circle}; start one from another model."
                )
            met.append(start)
    return found


def _apart(found: Params, where: str) -> None:
    """Every model, text and n-best list has a name of its own, on disks that know no capitals too."""
    models = [("the teacher", "teacher"), ("the baseline", "baseline")]
    models += [(f"distill.{row}", row) for row in found.distill] + [(f"finetune.{row}", row) for row in found.finetune]
    models += [(f"the ratio {ratio} of prune.ratios", name) for name, ratio in found.pruned.items()]
    texts = [("the human text", "reference"), *((f"select.{row}", row) for row in found.select)]
    lists = [(f"decode.{row}", row) for row in found.decode]
    for group in (models, texts, lists):
        holders: dict[str, str] = {}
        for key, name in group:
            other = holders.setdefault(name.casefold(), key)
            if other != key:
                raise InputError(f"{where}: {key} and {other} would both write {name}; rename the row.")


def _known(found: Params, where: str) -> None:
    """What a row names is there."""
    texts, starts = {"reference", *found.select}, {"teacher", "baseline", *found.distill, *found.finetune}
    named: list[tuple[str, str, set[str]]] = [
        *((f"select.{row}.nbest", item.nbest, set(found.decode)) for row, item in found.select.items()),
        *((f"distill.{row}.train_text", item.train_text, texts) for row, item in found.distill.items()),
        *((f"finetune.{row}.train_text", item.train_text, texts) for row, item in found.finetune.items()),
        *((f"finetune.{row}.init_from", item.init_from, starts - {row}) for row, item in found.finetune.items()),
        *(("speed.models", name, starts) for name in found.speed.models),
        ("prune.model", found.prune.model, starts),
        ("prune.retrain", found.prune.retrain, texts),
        ("prune.finetune", found.prune.finetune, texts),
    ]
    for key, value, allowed in named:
        if value not in allowed:
            raise InputError(f"{where}: {key} is {value!r}; it must be one of {', '.join(sorted(allowed))}.")
    if "teacher" not in found.speed.models:
        raise InputError(f"{where}: speed.models lacks the teacher, which the others are compared with; add it.")


def row_name(stage: str) -> str:
    """The row that a stage of DVC's is an instance of, such as seq_kd of distill@seq_kd; or the row's name alone.

    A stage's cmd hands on "$DVC_STAGE", for no shell reads a variable's text again, as it would the name in the cmd.
    """
    return stage.rpartition("@")[2]


def row(table: Mapping[str, T], name: str, *, section: str) -> T:
    """A row of a section of params.yaml. Raises InputError, with the rows there are, for another name."""
    if name not in table:
        raise InputError(f"params.yaml: {section} has no row {name!r}; name one of {', '.join(table)}, or add it.")
    return table[name]


def load_machine(path: Path = Path("machine.yaml")) -> Machine:
    """What this machine has. A queued experiment's clone, which DVC makes under the checkout's .dvc, has no such file,
    for git ignores it: there the checkout's counts."""
    outer = [folder.parent / path for folder in Path.cwd().parents if folder.name == ".dvc"]
    found = next((each for each in (path, *outer) if os.path.lexists(each)), None)
    if found and not found.exists():
        raise InputError(f"{found}: a link to a file that is not there; correct the link or take it away.")
    return Machine() if found is None else load(found, Machine)


__all__ = [
    "Machine",
    "NetworkSettings",
    "OptimizerSettings",
    "Params",
    "check_names",
    "load",
    "load_machine",
    "load_params",
    "parse",
    "row",
    "row_name",
]
