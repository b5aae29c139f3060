"""A model's training, from the pipeline's files to its folder: what train, distill, finetune and prune share."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seqkd.config import schema
from seqkd.config.schema import Machine, OptimizerSettings, Params
from seqkd.data import batches, bitext
from seqkd.data.vocab import Vocab
from seqkd.decoding import beam_search
from seqkd.evaluation import metrics
from seqkd.models import checkpoint
from seqkd.models.checkpoint import Model
from seqkd.models.lstm import LSTMNetwork, NetworkShape
from seqkd.ops import devices
from seqkd.planning import budget
from seqkd.training import curve, model_card, trainer
from seqkd.training.curve import Epoch
from seqkd.training.teacher import TopKCache
from seqkd.training.trainer import TrainingJob
from seqkd.utils import cache_dir, fingerprint
from seqkd.utils.errors import InputError


@dataclass(frozen=True)
class TrainingRun:
    """One training: its name, the text it reads, the loss, and where it stands in the pipeline."""

    name: str
    row: str  # of optim
    text: Path  # the pairs to train on
    corpus: Path  # the folder of dev.tsv and about.json
    start: str  # what the weights were before, in words
    alpha: float = 0.0
    teacher: Path | None = None
    top_k: int = 0  # of the teacher's distribution; 0: all of it


class TrainingResult(NamedTuple):
    """A course and what came of it."""

    course: TrainingRun
    settings: OptimizerSettings
    epochs: list[Epoch]
    state: Path  # of the training, kept until the model is written
    facts: dict[str, object]  # for the model's card
    about: dict[str, Any]  # the corpus's about.json


def init_model(vocab: Vocab, settings: schema.NetworkSettings, *, seed: int, device: torch.device) -> Model:
    """A network of a section of params.yaml with random weights, the same on every device."""
    budget.require(budget.weights(f"A network of {settings.size}", settings, vocab.size))
    network = LSTMNetwork(NetworkShape(vocab.size, settings.layers, settings.hidden, settings.dropout))
    spreads = {"spread": settings.init_range, "embedding_spread": settings.embedding_init_range}
    network.init_weights(torch.Generator().manual_seed(seed), **spreads)
    return Model(network.to(device), vocab, None)


def train(model: Model, course: TrainingRun, params: Params, machine: Machine) -> TrainingResult:
    """Trains model in place; takes up where an interrupted run of exactly this course ended."""
    where, settings = model.network.output.device, getattr(params.optim, course.row)
    teacher, about = _teacher(course, model), bitext.read_about(course.corpus / "about.json")
    files = [course.text, course.corpus, *([course.teacher] if course.teacher else [])]
    weights = torch.cat([parameter.detach().cpu().flatten() for parameter in model.network.parameters()])
    state = cache_dir.path(
        cache_dir.key(
            fingerprint.of(__name__),
            repr((course, settings, params.data, params.seed, params.precision)),
            repr((where.type, machine.matmul_backend, torch.__version__, torch.backends.cpu.get_cpu_capability())),
            *files,
            weights.numpy().tobytes(),
        )
    )
    lesson = TrainingJob(
        text=batches.tokenize(course.text, model.vocab, max_length=params.data.max_length),
        dev=batches.tokenize(course.corpus / "dev.tsv", model.vocab),
        settings=settings,
        seed=params.seed,
        alpha=course.alpha,
        teacher=teacher,
        kept=_top_k_cache(course, params) if teacher else None,
        mask=model.mask,
        label=course.name,
        row=course.row,
        resume=state,
    )
    budget.require(_resource_estimate(model, lesson, state, machine))
    print(f"{course.name}: {devices.describe(where)}", file=sys.stderr, flush=True)
    facts = _card_fields(course, params, left=len(lesson.text.sources))
    return TrainingResult(course, settings, trainer.train(model.network, lesson, machine), state, facts, about)


def _teacher(course: TrainingRun, model: Model) -> LSTMNetwork | None:
    """Whose distribution the loss needs. Raises InputError for one whose pieces are not the model's."""
    if course.teacher is None or not course.alpha:
        return None
    found = checkpoint.load(course.teacher, model.network.output.device)
    if found.vocab.model != model.vocab.model:
        raise InputError(f"{course.teacher}: its vocabulary is not that of {course.name}; train both anew.")
    return found.network


def _card_fields(course: TrainingRun, params: Params, *, left: int) -> dict[str, object]:
    """What a model's card says of a course; the pairs that are too long for it are told at once. left: pairs."""
    pairs, limit = bitext.count_pairs(course.text), params.data.max_length
    told = f"{left:,} of {pairs:,}; the others have more than {limit} pieces (data.max_length) or an empty side"
    if left < pairs:
        print(f"{course.name}: pairs: {told}", file=sys.stderr, flush=True)
    teacher = course.teacher.name if course.teacher and course.alpha else None
    return {
        "text": course.text.stem,
        "pairs": told if left < pairs else f"{pairs:,}",
        "start": course.start,
        "alpha": course.alpha,
        **({"teacher": teacher, "top_k": course.top_k} if teacher else {}),
        "seed": params.seed,
        "precision": params.precision,
        **getattr(params.optim, course.row).model_dump(),
    }


def _top_k_cache(course: TrainingRun, params: Params) -> TopKCache | None:
    """Where every course on this text with this teacher and top_k finds the shortlists."""
    if course.teacher is None or not course.top_k:
        return None
    key = cache_dir.key(
        fingerprint.of(__name__),
        str(course.top_k),
        repr(params.data.max_length),
        params.precision,
        course.text,
        course.teacher,
    )
    return TopKCache(course.top_k, cache_dir.path("shortlists") / key)


def _resource_estimate(model: Model, lesson: TrainingJob, state: Path, machine: Machine) -> budget.ResourceEstimate:
    """What a training takes on this machine."""
    on_cpu = model.network.output.device.type == "cpu"
    return budget.course(
        lesson.label,
        model.network.shape,
        lesson.settings,
        budget.CorpusStats.of(*lesson.text),
        vocab=model.vocab.size,
        processes=budget.processes(lesson.settings, machine) if on_cpu else 0,
        teacher=lesson.teacher.shape if lesson.teacher else None,
        keeping=state,
    )


def save(model: Model, *followed: TrainingResult, out: Path, curve_out: Path) -> None:
    """Writes the folder of a model that followed these courses, with what it reached on dev on its card, and its curve.

    Only then the trainings' states are given up.
    """
    course, settings, epochs = followed[-1][:3]
    dev = bitext.read(course.corpus / "dev.tsv")
    answers = beam_search.decode(model.network, [model.vocab.encode(pair.source) for pair in dev], beam=1)
    texts = model.vocab.decode_all([best.ids for best, *_ in answers])
    reached = metrics.bleu(texts, [pair.target for pair in dev])
    kept = epochs[-1] if settings.keep_checkpoint == "last" else min(epochs, key=lambda line: line.dev_perplexity)
    curve.write(curve_out, curve.concatenate(*(each.epochs for each in followed)))
    text = model_card.render(
        name=course.name,
        model=model,
        trainings=[each.facts for each in followed],
        about=followed[-1].about,
        dev={"perplexity": f"{kept.dev_perplexity:.2f}", "BLEU, greedy": f"{reached.value:.2f} ({reached.signature})"},
    )
    checkpoint.save(out, model, card=text)
    for each in followed:
        cache_dir.mark_complete(each.state)
