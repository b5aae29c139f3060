"""Training runs, from the pipeline's files to a model's folder: the body of train, distill, finetune and prune."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch

from seqkd.config.machine import Machine
from seqkd.config.schema import OWN, NetworkSettings, OptimizerSettings, Params, RowSettings
from seqkd.config.teachers import WordTeacher
from seqkd.data import batches, bitext
from seqkd.data.vocab import Vocab
from seqkd.models import checkpoint, ensemble, perplexity
from seqkd.models.checkpoint import Model
from seqkd.models.interface import Network, NetworkShape
from seqkd.ops import devices, matmul
from seqkd.training import cluster_teacher, curve, external_teacher, model_card, trainer
from seqkd.training.curve import Epoch
from seqkd.training.on_policy import Search
from seqkd.training.teacher import TopKCache
from seqkd.training.trainer import TrainingJob
from seqkd.utils import cache_dir, fingerprint, torchrun
from seqkd.utils.errors import InputError

RANDOM = "random"


@dataclass(frozen=True)
class TrainingRun:
    """The specification of one training: its text, its loss, and the model that it starts from."""

    name: str  # of the model
    optim: str  # the section of optim in params.yaml
    text: Path  # the pairs to train on
    corpus: Path  # the folder of dev.tsv and about.json
    init_from: str  # what the weights were before: RANDOM, or those of a model
    alpha: float = 0.0  # weight of word-level KD
    teacher: Path | None = None  # its folder, for word-level KD
    top_k: int = 0  # words of the teacher's distribution to keep; 0: all
    epochs: int | None = None  # passes over the text; None: those of optim
    member: int = 0  # of an ensemble; each has its own seed
    external: WordTeacher | None = None  # gives the distribution; teacher then has the vocabulary alone

    @classmethod
    def of_row(
        cls, name: str, row: RowSettings, external: WordTeacher | None = None, /, *, optim: str, init_from: str,
        texts: Path, corpus: Path, teacher: Path,
    ) -> Self:  # fmt: skip
        """Return the specification of a row of distill or finetune.

        external: a teacher whose distribution Word-KD matches; texts: the folder of all texts.
        """
        own = cls(name, optim, texts / f"{row.train_text}.tsv", corpus, init_from, row.alpha, epochs=row.epochs)
        return replace(own, teacher=teacher, top_k=row.top_k, external=external) if row.alpha else own

    @property
    def on_policy(self) -> bool:
        """Whether it trains on the student's own output; the text then has the sources alone."""
        return self.text.stem == OWN

    def settings(self, params: Params) -> OptimizerSettings:
        """Return how it is trained."""
        settings: OptimizerSettings = getattr(params.optim, self.optim)
        return settings if self.epochs is None else settings.model_copy(update={"epochs": self.epochs})

    @property
    def label(self) -> str:
        """Of its progress bar."""
        return f"{self.name} member {self.member + 1}" if self.member else self.name

    def seed(self, params: Params) -> int:
        return params.seed + self.member


class PreparedTraining(NamedTuple):
    """A training whose files are read."""

    spec: TrainingRun
    network: Network
    job: TrainingJob
    card: dict[str, object]  # the training's fields of the model card
    about: dict[str, Any]  # the corpus's about.json


class TrainingResult(NamedTuple):
    """A training that is done; network holds its weights."""

    prepared: PreparedTraining
    epochs: list[Epoch]


def init_model(vocab: Vocab, settings: NetworkSettings, *, seed: int, device: torch.device) -> Model:
    """Return a model with random weights, which are the same on every device; an ensemble's members in their order
    have the weights of the seeds seed, seed + 1, ..."""
    shape = NetworkShape(vocab.size, settings.layers, settings.hidden, settings.dropout, settings.members)
    network, ranges = ensemble.make(shape), settings.model_dump(include={"init_range", "embedding_init_range"})
    for number, member in enumerate(ensemble.members(network)):
        member.init_weights(torch.Generator().manual_seed(seed + number), **ranges)
    return Model(network.to(device), vocab, None)


def prepare(
    model: Model,
    spec: TrainingRun,
    params: Params,
    machine: Machine,
    *,
    search: Search | None = None,
    live: Path | None = None,
) -> PreparedTraining:
    """Read what a training of model needs, and leave the pieces that it has no use for out of a random network.

    search: for a training on the student's own output.

    Raises InputError where the teacher has another vocabulary.
    """
    params = params.model_copy(update={"precision": devices.choose_precision(machine, params.precision)})  # no auto
    key = _key(model, spec, params)
    tokenize = batches.tokenize_sources if spec.on_policy else batches.tokenize
    job = TrainingJob(
        text=tokenize(spec.text, model.vocab, max_length=params.data.max_length),
        search=search if spec.on_policy else None,
        dev=batches.tokenize(spec.corpus / "dev.tsv", model.vocab),
        settings=spec.settings(params),
        seed=spec.seed(params),
        alpha=spec.alpha,
        teacher=_load_teacher(spec, model),
        top_k_cache=_top_k_cache(spec, params, model.vocab),
        mask=model.mask,
        label=spec.label,
        optim=spec.optim,
        key=key,
        resume=_resume_folder(key, model.network.device, machine, search if spec.on_policy else None),
        live=live,
    )
    if spec.init_from == RANDOM and not spec.on_policy:
        model.network.exclude_pieces(job.text.unused_in_targets(model.vocab.size))
    about = bitext.read_about(spec.corpus / "about.json")
    return PreparedTraining(spec, model.network, job, card_fields(spec, params, used=len(job.text)), about)


def train(prepared: PreparedTraining, machine: Machine) -> TrainingResult:
    """Train the prepared network in place; resume where an interrupted run of exactly this training ended."""
    network, job = prepared.network, prepared.job
    if torchrun.is_main():
        log(f"{job.label}: {devices.describe(network.device)}")
    return TrainingResult(prepared, trainer.train(network, job, machine))


def save(model: Model, *trainings: Sequence[TrainingResult], out: Path, curve_out: Path) -> None:
    """Write the folder of a model that had these trainings one after the other, and their curve.

    trainings: of each, the results of an ensemble's members, or the only one; the curve is the members' mean. The saved
    states are marked as no longer needed only when both are written.
    """
    last = trainings[-1][0]
    curve.write(curve_out, curve.concatenate(*(curve.mean([each.epochs for each in results]) for results in trainings)))
    card = model_card.render(
        name=last.prepared.spec.name,
        model=model,
        trainings=[result.prepared.card for results in trainings for result in results],
        about=last.prepared.about,
        dev={"perplexity": f"{_dev_perplexity(model, last):.2f}"},
    )
    checkpoint.save(out, model, card=card)
    for result in chain.from_iterable(trainings):
        if result.prepared.job.resume is not None:
            cache_dir.mark_complete(result.prepared.job.resume)


def _dev_perplexity(model: Model, last: TrainingResult) -> float:
    """Return a trained model's perplexity on the development set, which its last training has measured if it is one."""
    if model.network.shape.members > 1:
        return perplexity.perplexity(model.network, last.prepared.job.dev)
    if last.prepared.job.settings.keep_checkpoint == "best":
        return min(epoch.dev_perplexity for epoch in last.epochs)
    return last.epochs[-1].dev_perplexity


Check = Callable[[TrainingJob, Network, Machine], None]


def train_and_save(
    model: Model,
    specs: Iterable[TrainingRun],
    params: Params,
    machine: Machine,
    *,
    check: Check,
    out: Path,
    curve_out: Path,
    search: Search | None = None,
    live: Path | None = None,
) -> None:
    """Give model, or each member of an ensemble, these trainings one after the other; write its folder and curve.

    live: the folder of what running trainings tell, where the model has one; None: nobody asks.
    check: called before each training; it raises InputError where the training cannot fit the machine.
    """
    trainings: list[list[TrainingResult]] = []
    for spec in specs:
        results = []
        for number, member in enumerate(members(model)):
            own = replace(spec, member=number)
            prepared = prepare(
                member, own, params, machine, search=search, live=live and live / own.label.replace(" ", "-")
            )
            check(prepared.job, prepared.network, machine)
            _ask_teacher(prepared, params, machine, model.vocab)
            results.append(train(prepared, machine))
        trainings.append(results)
    if torchrun.is_main():
        save(model, *trainings, out=out, curve_out=curve_out)


def members(model: Model) -> list[Model]:
    """Return the models that are trained one by one: the members of an ensemble, or the model itself.

    They share the model's weights.
    """
    networks = ensemble.members(model.network)
    masks = [None] * len(networks) if model.mask is None else model.mask.chunk(len(networks))
    return [Model(network, model.vocab, mask) for network, mask in zip(networks, masks, strict=True)]


def _key(model: Model, spec: TrainingRun, params: Params) -> str:
    """Return what identifies a training's settings, files and weights."""
    weights = torch.cat([parameter.detach().cpu().flatten() for parameter in model.network.parameters()])
    return cache_dir.key(
        repr((spec, spec.settings(params), params.data, params.seed, params.precision, model.network.shape)),
        *(path for path in (spec.text, spec.corpus, spec.teacher) if path is not None),
        weights.numpy().tobytes(),
    )


def _resume_folder(key: str, device: torch.device, machine: Machine, search: Search | None) -> Path:
    """Return where the checkpoints of exactly this training lie: key, code and machine."""
    tiles = device.type == "cpu" and matmul.uses_tiles()  # the system may refuse them later: other bits would follow
    kind = (device.type, machine.matmul_backend, tiles, torch.__version__, torch.backends.cpu.get_cpu_capability())
    code = fingerprint.of(__name__), fingerprint.of(search.__module__) if search else ""
    return cache_dir.path(cache_dir.key(key, *code, repr(kind)))


def _ask_teacher(prepared: PreparedTraining, params: Params, machine: Machine, vocab: Vocab) -> None:
    """Store what is missing of a teacher's top-k targets, where the training's own processes do not compute them:
    those of an external teacher, and with a cluster all."""
    spec, job = prepared.spec, prepared.job
    if job.top_k_cache is None or spec.teacher is None:
        return
    if spec.external is None and machine.workers:
        precision = devices.choose_precision(machine, params.precision)
        cluster_teacher.write(spec.teacher, job.top_k_cache, job.text, machine=machine, precision=precision)
    elif spec.external is not None:
        kept = batches.tokenized_pairs(spec.text, vocab, max_length=params.data.max_length)
        sources = (pair.source for pair, *_ in kept)
        external_teacher.write(spec.external, vocab, job.top_k_cache, job.text, sources=sources, machine=machine)


def _top_k_cache(spec: TrainingRun, params: Params, vocab: Vocab) -> TopKCache | None:
    """Return where all trainings on this text with this teacher and top_k keep the teacher's top-k targets."""
    if spec.teacher is None or not spec.top_k:
        return None
    if spec.external is not None:
        sizes = {"top_k": spec.top_k, "max_length": params.data.max_length}
        return external_teacher.cache(spec.external.settings, vocab, spec.text, **sizes)
    key = cache_dir.key(
        fingerprint.of("seqkd.training.teacher"),
        repr((spec.top_k, params.data.max_length, params.precision)),
        spec.text,
        spec.teacher,
    )
    return TopKCache(spec.top_k, cache_dir.path("top_k_targets") / key)


def _load_teacher(spec: TrainingRun, model: Model) -> Network | None:
    """Return the network whose distribution the loss needs; an external teacher has none here.

    Raises InputError where its vocabulary is another one.
    """
    if spec.teacher is None:
        return None
    if spec.external is not None:
        _require_vocab(spec, checkpoint.load_vocab(spec.teacher), model)
        return None
    teacher = checkpoint.load(spec.teacher, model.network.device)
    _require_vocab(spec, teacher.vocab, model)
    return teacher.network


def _require_vocab(spec: TrainingRun, vocab: Vocab, model: Model) -> None:
    if vocab.model != model.vocab.model:
        raise InputError(f"{spec.teacher}: its vocabulary is not that of {spec.name}; train both anew.")


def without_targets(text: Path) -> str | None:
    """Return why a text cannot be trained on: none of its lines has a target; None: it can."""
    return None if any(pair.target for pair in bitext.stream(text)) else "no training line has a human translation"


def card_fields(spec: TrainingRun, params: Params, *, used: int) -> dict[str, object]:
    """Return what the model card says of a training. used: pairs that are short enough to train on."""
    pairs, limit = bitext.count_pairs(spec.text, repeats=True), params.data.max_length
    count = f"{pairs:,}"
    if used < pairs:
        count = f"{used:,} of {pairs:,}; the others have more than {limit} pieces (data.max_length) or an empty side"
        if torchrun.is_main():
            log(f"{spec.name}: pairs: {count}")
    name = spec.external.name if spec.external else spec.teacher.name if spec.teacher else None
    word_kd = {"teacher": name, "top_k": spec.top_k} if name else {}
    return {
        "train_text": spec.text.stem,
        "pairs": count,
        "init_from": spec.init_from,
        "alpha": spec.alpha,
        **word_kd,
        "seed": spec.seed(params),
        "precision": params.precision,
        **spec.settings(params).model_dump(),
    }


def log(message: str) -> None:
    """Print a line on stderr."""
    print(message, file=sys.stderr, flush=True)
