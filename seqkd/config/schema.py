"""params.yaml as frozen records: a record for each section and each row."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, field_serializer

from seqkd.config import old_names
from seqkd.config.old_names import OldNames
from seqkd.config.records import Fraction, Language, Members, Name, Positive, Range, Ratio, Record, Size, distinct, some
from seqkd.config.teachers import ExternalTeacher, TeacherSettings, TrainedTeacher, TransformersTeacher, WordTeacher
from seqkd.utils.errors import InputError

T = TypeVar("T")
MIN_VOCAB_SIZE = 16  # pieces
WIDTH = 3.2  # init_range: auto, times the root of the hidden units
REFERENCE, OWN = "reference", "own"  # the texts that no row makes: human translations; the student's own
# What makes a translation teach badly.
Fault = Literal["empty", "placeholders", "script", "copy", "repetition", "length"]


class DataSettings(Record):
    corpus: Annotated[str, Field(min_length=1)]  # a recipe (*.yaml), a folder, or one file (tab-separated, TMX)
    source: Language  # as in the corpus's file names
    target: Language
    max_length: Positive  # pieces a side; longer training pairs are left out
    tidy: bool  # takes tags, entities and a tokenizer's marks out of one's own text, and mtdata's
    monolingual: Annotated[str, Field(min_length=1)] | None = None  # source lines without target: a file, or a recipe
    max_pairs: Annotated[int, Field(ge=0)] = 0  # a sample of so many training pairs; 0: all
    seed: int | None = None  # of the split into train, dev and test, and of the sample; None: the seed of all else


class VocabSettings(Record):
    size: Annotated[int, Field(ge=MIN_VOCAB_SIZE, le=1_000_000)]  # joint pieces of both languages
    teacher: Annotated[Name | None, Field(alias="from")] = None  # whose sentencepiece model it is; None: it is learnt
    # The fraction of the text's characters that are pieces; rarer ones are bytes. auto: as many as are worth a piece.
    character_coverage: Annotated[float, Field(ge=0.9, le=1)] | Literal["auto"] = "auto"
    max_sentences: Positive = 200_000  # that it is learnt from, spread over the text; more change it little
    byte_fallback: bool = True  # 256 of the pieces are bytes; false: a character that is no piece is unknown


class NetworkSettings(Record):
    size: Size  # LxH: layers x hidden units, the paper's notation
    dropout: Ratio  # on the input of layers >= 2 and on the attentional vector
    # Weights start uniform in (-init_range, init_range); the paper: 0.1. auto: 3.2 / sqrt(hidden units). From a smaller
    # range a small network finds its attention late, or never.
    init_range: Range | Literal["auto"] = 0.1
    embedding_init_range: Range = 0.1  # the same for the two embeddings
    members: Members = 1  # networks of this size, each from its own seed, whose probabilities are averaged

    @field_serializer("init_range")
    def _as_number(self, value: float | str) -> float:
        return WIDTH / math.sqrt(self.hidden) if value == "auto" else float(value)

    @property
    def member(self) -> Self:
        """Return one network of an ensemble."""
        return self.model_copy(update={"members": 1})

    @property
    def described(self) -> str:
        """Return the size, of an ensemble such as 2 x 2x256."""
        return self.size if self.members == 1 else f"{self.members} x {self.size}"

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


class DecodeSettings(Record):
    beam: Annotated[int, Field(ge=1, le=10_000)] | None = None  # files and commands: at most so many of each list
    length_penalty: Fraction = 0.0  # score = log-probability / length ** length_penalty; 0: the paper's plain sum
    monolingual: bool = True  # false: no lists of the lines without a translation, which only the metric score needs
    teacher: Name | None = None  # a row of teachers; None: the trained one
    join: Annotated[list[Name], Field(min_length=2), AfterValidator(distinct)] | None = None  # rows of other teachers


class SelectSettings(Record):
    nbest: Name  # a row of decode
    metric: Literal["score", "bleu", "chrf"]
    smoothing: Literal["none", "floor", "add-k", "exp"] = "add-k"  # of sentence BLEU (Chen & Cherry 2014)
    smoothing_value: Annotated[float, Field(ge=0)] = 1.0  # the k of add-k, the floor of floor
    drop: Annotated[list[Fault], AfterValidator(distinct)] | None = None  # chosen texts with these are left out
    # Copies of the best text by the metric, of the second best, and so on; None: the best once. Equal texts count once.
    times: Annotated[list[Annotated[int, Field(ge=0, le=1000)]], AfterValidator(some)] | None = None


class RowSettings(Record):
    """What a row of distill and one of finetune have in common."""

    train_text: Name  # reference, own (the student's greedy output, renewed in each epoch), a row of select or of mix
    alpha: Fraction  # weight of Word-KD against NLL
    top_k: Annotated[int, Field(ge=0)] = 0  # words of the teacher's distribution that Word-KD keeps; 0: all
    epochs: Positive | None = None  # passes over the text; None: those of optim


class DistillSettings(RowSettings):
    # Not called size: DVC's run cache ignores keys of this name, and would give back the model of another size.
    student_size: Size | None = None  # LxH; None: student.size


class FinetuneSettings(RowSettings):
    init_from: Name  # a model


class PruneSettings(Record):
    model: Name
    ratios: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], AfterValidator(distinct)]
    retrain: Name
    finetune: Name


class EvaluateSettings(Record):
    beams: Annotated[list[Annotated[int, Field(ge=1, le=10_000)]], Field(min_length=1), AfterValidator(distinct)]
    length_penalty: Fraction = 0.0


class SpeedSettings(Record):
    models: Annotated[list[Name], Field(min_length=1), AfterValidator(distinct)]  # Table 2 shows their words per second
    sentences: Positive  # the first lines of the test set
    rounds: Positive  # alternating over the models; the median counts


class Params(Record):
    renamed: ClassVar[OldNames] = old_names.PARAMS
    seed: Annotated[int, Field(ge=0, lt=1 << 32)]
    # Of matrix products; bf16: inputs are rounded, sums are fp32; auto: what is faster on this machine.
    precision: Literal["fp32", "bf16", "auto"]
    data: DataSettings
    vocab: VocabSettings
    teacher: NetworkSettings
    student: NetworkSettings
    optim: OptimizerTable
    teachers: dict[Name, TeacherSettings]
    decode: dict[Name, DecodeSettings]
    select: dict[Name, SelectSettings]
    mix: dict[Name, Annotated[dict[Name, Positive], AfterValidator(some)]]  # copies of each text in a mixed one
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

    @property
    def word_teacher(self) -> WordTeacher | None:
        """The external teacher whose distribution Word-KD matches; None: the trained one's, or there is none."""
        owner = self.external.get(self.vocab.teacher or "")
        if self.trains_teacher or self.vocab.teacher is None or not isinstance(owner, TransformersTeacher):
            return None
        return WordTeacher(self.vocab.teacher, owner)

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
        if text in self.mix:
            return list(dict.fromkeys(name for part in self.mix[text] for name in self.teachers_of(part)))
        if text not in self.select:
            return ["teacher"] if text == OWN else []
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

    def origin(self, model: str) -> str:
        """Return the model at the end of a model's chain of init_from, or of a pruned one's."""
        model = self.prune.model if model in self.pruned else model
        seen: set[str] = set()
        while model in self.finetune and model not in seen:
            seen.add(model)
            model = self.finetune[model].init_from
        return model

    def role(self, model: str) -> Literal["teacher", "student"]:
        """Return whose size a model has: that of its origin."""
        origin = self.origin(model)
        return "teacher" if origin == "teacher" or origin in self.external else "student"

    def network_of(self, model: str) -> NetworkSettings:
        """Return the network of a model that is trained here."""
        origin = self.origin(model)
        if self.role(origin) == "teacher":
            return self.teacher
        size = self.distill[origin].student_size if origin in self.distill else None
        return self.student if size is None else self.student.model_copy(update={"size": size})

    def baseline_of(self, model: str) -> str | None:
        """Return the student on human text alone that has a student's size; None: there is none."""
        network = self.network_of(model)
        if network == self.student:
            return "baseline"
        same = (name for name in self.distill if self.network_of(name) == network)
        plain = (name for name in same if self.distill[name].train_text == REFERENCE and not self.distill[name].alpha)
        return next(plain, None)

    def copies(self, text: str) -> int:
        """Return how many lines a text has for each line of the training text, at most."""
        if text in self.mix:
            return sum(count * self.copies(part) for part, count in self.mix[text].items())
        return sum(self.select[text].times or [1]) if text in self.select else 1


class Overlay(Record):
    """Some keys of params.yaml. Their values are checked when they are merged into it."""

    model_config = ConfigDict(extra="allow")
    renamed: ClassVar[OldNames] = old_names.PARAMS


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
