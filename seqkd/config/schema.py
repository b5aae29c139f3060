"""params.yaml and machine.yaml as frozen records; a key that is unknown, missing or mistyped is refused by name."""

import os
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from seqkd.config import old_names, yaml_file
from seqkd.config.old_names import OldNames
from seqkd.utils.errors import InputError

T = TypeVar("T")


def _matches(pattern: str, description: str) -> AfterValidator:
    """Return a validator that refuses a text which does not match pattern, with the description."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {description}")
        return value

    return AfterValidator(check)


def _distinct(values: list[T]) -> list[T]:
    if any(value in values[:index] for index, value in enumerate(values)):
        raise ValueError("must hold each value once")
    return values


Ratio = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Range = Annotated[float, Field(gt=0, le=100)]
# A name becomes a part of paths, so it cannot lead out of a folder; 64 letters leave space for what stages add.
Name = Annotated[str, _matches(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "at most 64 letters, digits, _ and -, such as seq-2")]
Language = Annotated[str, _matches(r"[A-Za-z0-9]+([._@-][A-Za-z0-9]+)*", "a language's code, such as de or pt_BR")]
Size = Annotated[str, _matches(r"[1-9][0-9]?x[1-9][0-9]{0,4}", "LAYERSxUNITS, such as 2x500, at most 99x99999")]


MIN_VOCAB_SIZE = 16  # pieces
Fault = Literal["empty", "script", "copy", "repetition", "length"]  # what makes a translation teach badly


class Record(BaseModel):
    """A section of a settings file. Unknown, missing and mistyped keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    renamed: ClassVar[OldNames] = {}


class DataSettings(Record):
    corpus: Annotated[str, Field(min_length=1)]  # a recipe (*.yaml), a folder, or one file (tab-separated, TMX)
    source: Language  # as in the corpus's file names
    target: Language
    max_length: Positive  # pieces a side; longer training pairs are left out
    tidy: bool  # takes tags, entities and a tokenizer's marks out of one's own text, and mtdata's
    monolingual: Annotated[str, Field(min_length=1)] | None = None  # source lines without target: a file, or a recipe


class VocabSettings(Record):
    size: Annotated[int, Field(ge=MIN_VOCAB_SIZE, le=1_000_000)]  # joint pieces of both languages
    # The fraction of the text's characters that are pieces; rarer ones are bytes. auto: as many as are worth a piece.
    character_coverage: Literal["auto"] | Annotated[float, Field(ge=0.9, le=1)] = "auto"
    byte_fallback: bool = True  # 256 of the pieces are bytes; false: a character that is no piece is unknown


class NetworkSettings(Record):
    size: Size  # LxH: layers x hidden units, the paper's notation
    dropout: Ratio  # on the input of layers >= 2 and on the attentional vector
    init_range: Range = 0.1  # weights start uniform in (-init_range, init_range); the paper: 0.1
    embedding_init_range: Range = 0.1  # the same for the two embeddings

    @property
    def layers(self) -> int:
        return int(self.size.split("x")[0])

    @property
    def hidden(self) -> int:
        return int(self.size.split("x")[1])


class OptimizerSettings(Record):
    optimizer: Literal["adam", "sgd"]
    learning_rate: Annotated[float, Field(gt=0)]  # the highest of the schedule
    schedule: Literal["cosine", "constant", "halve"]  # halve: the paper's rule (section 4.1 of Kim & Rush)
    epochs: Positive  # passes over the text
    batch_size: Positive  # sentences per update; fewer where they have more than 16,384 pieces, padding included
    max_grad_norm: Annotated[float, Field(gt=0)] = 5.0  # a gradient with a larger norm is scaled down to it
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999  # adam: decay of the mean of squared gradients
    warmup_steps: Annotated[int, Field(ge=0)] = 100  # updates with a linearly rising learning rate
    start_decay_epoch: Positive = 9  # halve: the learning rate is halved from this epoch on at the latest
    patience: Annotated[int, Field(ge=0)] = 0  # early stopping: epochs without a better dev perplexity; 0: never
    keep_checkpoint: Literal["last", "best"] = "last"  # best: the epoch of the lowest dev perplexity
    loss_normalization: Literal["tokens", "sentences"] = "tokens"  # divides the summed loss; the paper: sentences
    shards: Positive = 2  # parts of a batch, each with its own dropout; more processes than shards stay idle


class OptimizerTable(Record):
    teacher: OptimizerSettings
    student: OptimizerSettings  # every row that starts from random weights
    finetune: OptimizerSettings  # every row that starts from a trained model
    retrain: OptimizerSettings  # after pruning


class TrainedTeacher(Record):
    """The teacher that the pipeline trains; its model is called teacher."""

    kind: Literal["trained"]


class FilesTeacher(Record):
    """Translations that stand in files."""

    kind: Literal["files"]
    lists: Annotated[str, Field(min_length=1)]  # of the text: a file or a glob; plain or .gz
    sources: Annotated[str, Field(min_length=1)] | None = None  # whose lines the lists translate; None: the text's ids
    test: Annotated[str, Field(min_length=1)] | None = None  # of the test set, its lines in order or ids from 0


class CommandTeacher(Record):
    """A program that reads lines and writes lines; machine.yaml has its argv."""

    kind: Literal["command"]
    version: Annotated[str, Field(min_length=1, max_length=200)]  # another version's lines are not taken for this one's


class _ModelTeacher(Record):
    model: Annotated[str, Field(min_length=1)]  # the folder of the model
    source_code: Annotated[str, Field(min_length=1)] | None = None  # the languages as the model calls them
    target_code: Annotated[str, Field(min_length=1)] | None = None


class CTranslate2Teacher(_ModelTeacher):
    """A model that CTranslate2 has converted, with its sentencepiece models beside it."""

    kind: Literal["ctranslate2"]


class TransformersTeacher(_ModelTeacher):
    """An encoder-decoder model of the library transformers: a folder, or a name where machine.yaml allows downloads."""

    kind: Literal["transformers"]


TeacherSettings = Annotated[
    TrainedTeacher | FilesTeacher | CommandTeacher | CTranslate2Teacher | TransformersTeacher,
    Field(discriminator="kind"),
]
ExternalTeacher = FilesTeacher | CommandTeacher | CTranslate2Teacher | TransformersTeacher
OWN_BEAM = (TrainedTeacher, CTranslate2Teacher, TransformersTeacher)  # these search with the row's beam
_TRAINED = TrainedTeacher(kind="trained")


class DecodeSettings(Record):
    beam: Annotated[int, Field(ge=1, le=10_000)] | None = None  # files and commands: at most so many of each list
    length_penalty: Fraction = 0.0  # score = log-probability / length ** length_penalty; 0: the paper's plain sum
    teacher: Name | None = None  # a row of teachers; None: the trained one
    join: Annotated[list[Name], Field(min_length=2), AfterValidator(_distinct)] | None = None  # rows of other teachers


class SelectSettings(Record):
    nbest: Name  # a row of decode
    metric: Literal["score", "bleu", "chrf"]
    smoothing: Literal["none", "floor", "add-k", "exp"] = "add-k"  # of sentence BLEU (Chen & Cherry 2014)
    smoothing_value: Annotated[float, Field(ge=0)] = 1.0  # the k of add-k, the floor of floor
    drop: Annotated[list[Fault], AfterValidator(_distinct)] | None = None  # chosen texts with these are left out


class DistillSettings(Record):
    train_text: Name  # reference, or a row of select
    alpha: Fraction  # weight of Word-KD against NLL
    top_k: Annotated[int, Field(ge=0)] = 0  # words of the teacher's distribution that Word-KD keeps; 0: all


class FinetuneSettings(DistillSettings):
    init_from: Name  # a model


class PruneSettings(Record):
    model: Name
    ratios: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], AfterValidator(_distinct)]
    retrain: Name
    finetune: Name


class EvaluateSettings(Record):
    beams: Annotated[list[Annotated[int, Field(ge=1, le=10_000)]], Field(min_length=1), AfterValidator(_distinct)]
    length_penalty: Fraction = 0.0


class SpeedSettings(Record):
    models: Annotated[
        list[Name], Field(min_length=1), AfterValidator(_distinct)
    ]  # Table 2 shows their words per second
    sentences: Positive  # the first lines of the test set
    rounds: Positive  # alternating over the models; the median counts


class Params(Record):
    renamed: ClassVar[OldNames] = old_names.PARAMS
    seed: Annotated[int, Field(ge=0, lt=1 << 32)]
    precision: Literal["fp32", "bf16"]  # of matrix products; bf16: inputs are rounded, sums are fp32
    data: DataSettings
    vocab: VocabSettings
    teacher: NetworkSettings
    student: NetworkSettings
    optim: OptimizerTable
    teachers: dict[Name, TeacherSettings]
    decode: dict[Name, DecodeSettings]
    select: dict[Name, SelectSettings]
    distill: dict[Name, DistillSettings]
    finetune: dict[Name, FinetuneSettings]
    prune: PruneSettings
    evaluate: EvaluateSettings
    speed: SpeedSettings

    @property
    def external(self) -> dict[str, ExternalTeacher]:
        """The teachers that are not trained here."""
        return {name: row for name, row in self.teachers.items() if not isinstance(row, TrainedTeacher)}

    @property
    def trains_teacher(self) -> bool:
        """Whether a teacher is trained: a row names it, a list is decoded by it, or there is no other."""
        own = any(self.teacher_of(row) is None and not row.join for row in self.decode.values())
        return own or not self.external or len(self.external) < len(self.teachers)

    def untrained(self, role: str) -> str | None:
        """Return why no network of this role is trained on human text; None: one is."""
        return None if role == "student" or self.trains_teacher else f"{', '.join(self.external)} teaches instead"

    def teacher_of(self, row: DecodeSettings) -> str | None:
        """Return the external teacher of a row of decode; None: the trained one, or it joins other rows."""
        return row.teacher if row.teacher in self.external else None

    def owners(self, row: str) -> dict[str, str]:
        """Return the external teacher of each row of decode whose lists a row has; none for the trained teacher's."""
        rows = [each for each in self.decode[row].join or [row] if each in self.decode]
        return {each: owner for each in rows if (owner := self.teacher_of(self.decode[each]))}

    def teachers_of(self, text: str) -> list[str]:
        """Return the teachers, by their names in the tables, whose translations a text may have."""
        if text not in self.select:
            return []
        return list(dict.fromkeys(self.owners(self.select[text].nbest).values())) or ["teacher"]

    @property
    def networks(self) -> list[str]:
        """Every unpruned model that is trained here, in the order of the paper's Table 1."""
        own = ["teacher", *self._rows("teacher")] if self.trains_teacher else []
        return [*own, "baseline", *self.distill, *self._rows("student")]

    @property
    def main_teacher(self) -> str:
        """The teacher that models are compared with: the trained one, or else the first external one."""
        return "teacher" if self.trains_teacher else next(iter(self.external))

    @property
    def may_lack_translations(self) -> set[str]:
        """Models that may have no translation of the test set: of others, and a baseline without human text."""
        return {*self.external, "baseline"}

    @property
    def models(self) -> list[str]:
        """Every unpruned model and external teacher, in the order of the paper's Table 1."""
        return [*self.external, *self.networks]

    @property
    def pruned(self) -> dict[str, float]:
        """Each pruned model's name and the fraction of its weights that is pruned."""
        return {f"prune-{ratio}": ratio for ratio in self.prune.ratios}

    def _rows(self, role: str) -> list[str]:
        return [row for row in self.finetune if self.role(row) == role]

    def role(self, model: str) -> Literal["teacher", "student"]:
        """Return whose size a model has: that of the model at the end of its chain of init_from."""
        seen: set[str] = set()
        while model in self.finetune and model not in seen:
            seen.add(model)
            model = self.finetune[model].init_from
        return "teacher" if model == "teacher" or model in self.external else "student"


class Overlay(Record):
    """Some keys of params.yaml. Their values are checked when they are merged into it."""

    model_config = ConfigDict(extra="allow")
    renamed: ClassVar[OldNames] = old_names.PARAMS


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Command(Record):
    """How this machine starts the program of a teacher of kind command. No shell reads it."""

    argv: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]  # the program and its arguments
    batch: Positive = 100  # lines that it gets at once
    time_limit: Annotated[float, Field(gt=0)] = 120.0  # seconds for a batch
    memory_limit: Positive = 4000  # MB of the program and its children


class Machine(Record):
    """machine.yaml: what describes this machine and changes no result's meaning. Without the file: all cores."""

    renamed: ClassVar[OldNames] = old_names.MACHINE
    processes: Annotated[int, Field(ge=1, le=1024)] = Field(default_factory=_cores)  # of one thread each
    checkpoint_interval: Annotated[float, Field(ge=0)] = 50.0  # seconds of training that a kill may cost
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # The GEMM on a CPU; auto: seqkd's own. The recurrent steps of a training always use that one.
    matmul_backend: Literal["auto", "own", "torch"] = "auto"
    max_batch_hypotheses: Positive = 1500  # in one process's beam search at once; on a GPU up to ten times as many
    commands: dict[Name, Command] = Field(default_factory=dict)  # by the name of a teacher of kind command
    allow_download: bool = False  # a teacher of kind transformers may fetch its model by name

    def __hash__(self) -> int:
        return hash(repr(self))  # a dict has none


R = TypeVar("R", bound=Record)


def parse(record: type[R], values: object, *, where: str, hint: str = "") -> R:
    """Return values as a record. Raise InputError with the first wrong key and the remedy, or the given hint."""
    old_names.refuse(values, record.renamed, where=where)
    try:
        return record.model_validate(values)
    except ValidationError as error:
        fault, remedy = _describe(error)
        raise InputError(f"{where}: {fault}; {hint or remedy}.") from None


def _describe(error: ValidationError) -> tuple[str, str]:
    """Return what is wrong with the first wrong key, and what to do."""
    first = error.errors(include_url=False)[0]
    path, value = list(first["loc"]), reprlib.repr(first["input"])
    if path[:1] == ["teachers"]:
        del path[2:3]  # the kind, which pydantic puts between the row and its key
        if first["type"] == "union_tag_not_found":
            return f"{'.'.join(map(str, path))}.kind is missing", "add it"
        if first["type"] == "union_tag_invalid":
            kind = reprlib.repr(first["ctx"]["tag"])
            return f"{'.'.join(map(str, path))}.kind is {kind}", f"it must be one of {first['ctx']['expected_tags']}"
    is_name = path[-1:] == ["[key]"]  # the name of a row is wrong, not what the row holds
    key = ".".join(map(yaml_file.printable_key, path[:-2] if is_name else path)) or "(the whole file)"
    if first["type"] == "extra_forbidden":
        return f"{key} is not a known key", "remove it or correct its spelling"
    if first["type"] == "missing":
        return f"{key} is missing", "add it"
    must = re.sub(r"^\w+ should ", "must ", first["msg"].removeprefix("Value error, "))
    must = re.sub(r"be a valid dictionary( or instance of \w+)?", "be keys with values", must)
    return f"{key} {'has the key' if is_name else 'is'} {value}", f"it {must.replace(' after validation', '')}"


def load(path: Path, record: type[R]) -> R:
    """Read a YAML file as a record. Raise InputError for a file that is absent, not YAML or not such a record."""
    return parse(record, yaml_file.read(path), where=str(path))


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read params.yaml. Raise InputError also where a row names another row that does not exist."""
    return check_names(load(path, Params), where=str(path))


def check_names(params: Params, *, where: str) -> Params:
    """Return the same settings.

    Raise InputError where two rows would write the same folder, a row names a row that does not exist, or the
    init_from of rows form a circle.
    """
    if params.data.source == params.data.target:
        raise InputError(f"{where}: data.source and data.target are both {params.data.source!r}; name two languages.")
    _check_unique(params, where)
    _check_teachers(params, where)
    _check_references(params, where)
    for row in params.finetune:
        chain = [row]
        while (start := params.finetune[chain[-1]].init_from) in params.finetune:
            if start in chain:
                circle = " from ".join([*chain, start])
                raise InputError(
                    f"{where}: finetune.{row}.init_from: a circle, {circle}; start one from another model."
                )
            chain.append(start)
    return params


def _check_unique(params: Params, where: str) -> None:
    """Raise InputError where two models, texts or n-best lists have one name; upper and lower case count as equal,
    as on the disks of some systems."""
    models = [("the teacher", "teacher"), ("the baseline", "baseline")]
    models += [(f"distill.{row}", row) for row in params.distill]
    models += [(f"finetune.{row}", row) for row in params.finetune]
    models += [(f"the ratio {ratio} of prune.ratios", name) for name, ratio in params.pruned.items()]
    texts = [("the reference text", "reference"), *((f"select.{row}", row) for row in params.select)]
    models += [(f"teachers.{row}", row) for row in params.teachers]
    lists = [(f"decode.{row}", row) for row in params.decode]
    for group in (models, texts, lists):
        owners: dict[str, str] = {}
        for key, name in group:
            other = owners.setdefault(name.casefold(), key)
            if other != key:
                raise InputError(f"{where}: {key} and {other} would both write {name}; rename the row.")


def _check_teachers(params: Params, where: str) -> None:
    """Raise InputError where a row of decode has no such teacher or no beam, or a loss needs a trained one."""
    if len(params.teachers) - len(params.external) > 1:
        raise InputError(f"{where}: teachers has several rows of kind trained; the pipeline trains one, so keep one.")
    for name, row in params.decode.items():
        key = f"{where}: decode.{name}"
        if row.join:
            _check_join(params, name, where)
        elif row.teacher is not None and row.teacher not in params.teachers:
            known = ", ".join(params.teachers) or "none"
            raise InputError(f"{key}.teacher is {row.teacher!r}; it must be a row of teachers (now: {known}).")
        elif row.beam is None and isinstance(params.teachers.get(row.teacher or "", _TRAINED), OWN_BEAM):
            raise InputError(f"{key}.beam is missing; add it.")
    rows: dict[str, DistillSettings] = {f"distill.{name}": row for name, row in params.distill.items()}
    rows |= {f"finetune.{name}": row for name, row in params.finetune.items()}
    for name, student in rows.items():
        if student.alpha and not params.trains_teacher:
            others = ", ".join(params.external)
            raise InputError(
                f"{where}: {name}.alpha is {student.alpha:g}, but Word-KD needs a teacher of the students' vocabulary, "
                f"and {others} has another; set it to 0, or train a teacher too (a row of decode without teacher)."
            )


def _check_join(params: Params, name: str, where: str) -> None:
    """Raise InputError where a row of decode joins what is no row of an external teacher, or has a teacher itself."""
    row, key = params.decode[name], f"{where}: decode.{name}"
    if row.teacher is not None or row.length_penalty:
        raise InputError(f"{key} has join, so it takes other rows' lists; remove its teacher and length_penalty.")
    allowed = sorted(other for other, each in params.decode.items() if params.teacher_of(each))
    if len(set(params.owners(name).values())) < len(set(row.join or ()) & set(allowed)):
        raise InputError(f"{key}.join has two rows of one teacher; name one row of each.")
    for other in row.join or ():
        if other not in allowed:
            listed = ", ".join(allowed) or "none"
            raise InputError(f"{key}.join has {other!r}; it must name rows with an external teacher ({listed}).")


def _check_references(params: Params, where: str) -> None:
    """Raise InputError where a row names a list, text or model that does not exist."""
    texts, models = {"reference", *params.select}, {"baseline", *params.distill, *params.finetune}
    models |= {"teacher"} if params.trains_teacher else set()
    references: list[tuple[str, str, set[str]]] = [
        *((f"select.{name}.nbest", row.nbest, set(params.decode)) for name, row in params.select.items()),
        *((f"distill.{name}.train_text", row.train_text, texts) for name, row in params.distill.items()),
        *((f"finetune.{name}.train_text", row.train_text, texts) for name, row in params.finetune.items()),
        *((f"finetune.{name}.init_from", row.init_from, models - {name}) for name, row in params.finetune.items()),
        *(("speed.models", name, models) for name in params.speed.models),
        ("prune.model", params.prune.model, models),
        ("prune.retrain", params.prune.retrain, texts),
        ("prune.finetune", params.prune.finetune, texts),
    ]
    for key, value, allowed in references:
        if value == "gold" and "gold" not in allowed and "reference" in allowed:
            raise InputError(f"{where}: {key}: gold is now called reference; rename it.")
        if value not in allowed:
            raise InputError(f"{where}: {key} is {value!r}; it must be one of {', '.join(sorted(allowed))}.")
    if params.trains_teacher and "teacher" not in params.speed.models:
        raise InputError(f"{where}: speed.models lacks the teacher, which the others are compared with; add it.")


def row_name(stage: str) -> str:
    """Return the row of a DVC stage, such as seq_kd of distill@seq_kd, or of seq_kd alone.

    A stage's cmd passes "$DVC_STAGE", because a shell does not evaluate the text of a variable again, as it would
    evaluate a name written into the cmd.
    """
    return stage.rpartition("@")[2]


def row(table: Mapping[str, T], name: str, *, section: str) -> T:
    """Return a row of a section of params.yaml. Raise InputError, with the rows there are, for another name."""
    if name not in table:
        raise InputError(f"params.yaml: {section} has no row {name!r}; name one of {', '.join(table)}, or add it.")
    return table[name]


def load_machine(path: Path = Path("machine.yaml")) -> Machine:
    """Read machine.yaml, or return the defaults where there is none.

    DVC runs a queued experiment in a clone under the checkout's .dvc. Git ignores machine.yaml, so the clone has
    none: there the checkout's file is read.
    """
    outer = [folder.parent / path for folder in Path.cwd().parents if folder.name == ".dvc"]
    existing = next((each for each in (path, *outer) if os.path.lexists(each)), None)
    if existing is None:
        return Machine()
    if not existing.exists():
        raise InputError(f"{existing}: a link to a file that is not there; correct the link or remove it.")
    return load(existing, Machine)
