"""A model's training, from the pipeline's files to its folder: what train, distill, finetune and prune share."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seqkd import batches, budget, card, checkpoint, config, corpus, curve, hardware, resume, scores, search, trainer
from seqkd.checkpoint import Model
from seqkd.config import Machine, Optim, Params
from seqkd.curve import Epoch
from seqkd.errors import InputError
from seqkd.model import Network, Shape
from seqkd.teacher import Kept
from seqkd.trainer import Lesson
from seqkd.vocab import Vocab


@dataclass(frozen=True)
class Course:
    """One training: its name, the text it reads, the loss, and where it stands in the pipeline."""

    name: str
    row: str  # of optim
    text: Path  # the pairs to train on
    corpus: Path  # the folder of dev.tsv and about.json
    start: str  # what the weights were before, in words
    alpha: float = 0.0
    teacher: Path | None = None
    top_k: int = 0  # of the teacher's distribution; 0: all of it


class Followed(NamedTuple):
    """A course and what came of it."""

    course: Course
    settings: Optim
    epochs: list[Epoch]
    state: Path  # of the training, kept until the model is written
    facts: dict[str, object]  # for the model's card
    about: dict[str, Any]  # the corpus's about.json


def fresh(vocab: Vocab, settings: config.Network, *, seed: int, device: torch.device) -> Model:
    """A network of a section of params.yaml with random weights, the same on every device."""
    budget.admit(budget.weights(f"A network of {settings.size}", settings, vocab.size))
    network = Network(Shape(vocab.size, settings.layers, settings.hidden, settings.dropout))
    spreads = {"spread": settings.spread, "embedding_spread": settings.embedding_spread}
    network.start(torch.Generator().manual_seed(seed), **spreads)
    return Model(network.to(device), vocab, None)


def follow(model: Model, course: Course, params: Params, machine: Machine) -> Followed:
    """Trains model in place; takes up where an interrupted run of exactly this course ended."""
    where, settings = model.network.output.device, getattr(params.optim, course.row)
    teacher, about = _teacher(course, model), corpus.about(course.corpus / "about.json")
    files = [course.text, course.corpus, *([course.teacher] if course.teacher else [])]
    weights = torch.cat([parameter.detach().cpu().flatten() for parameter in model.network.parameters()])
    state = resume.folder(
        resume.key(
            repr((course, settings, params.data, params.seed, params.precision)),
            repr((where.type, machine.products, torch.__version__, torch.backends.cpu.get_cpu_capability())),
            *files,
            weights.numpy().tobytes(),
        )
    )
    lesson = Lesson(
        text=batches.read(course.text, model.vocab, longest=params.data.max_tokens),
        dev=batches.read(course.corpus / "dev.tsv", model.vocab),
        settings=settings,
        seed=params.seed,
        alpha=course.alpha,
        teacher=teacher,
        kept=_kept(course, params) if teacher else None,
        mask=model.mask,
        label=course.name,
        row=course.row,
        resume=state,
    )
    budget.admit(_need(model, lesson, state, machine))
    print(f"{course.name}: {hardware.told(where)}", file=sys.stderr, flush=True)
    facts = _facts(course, params, left=len(lesson.text.sources))
    return Followed(course, settings, trainer.train(model.network, lesson, machine), state, facts, about)


def _teacher(course: Course, model: Model) -> Network | None:
    """Whose distribution the loss needs. Raises InputError for one whose pieces are not the model's."""
    if course.teacher is None or not course.alpha:
        return None
    found = checkpoint.load(course.teacher, model.network.output.device)
    if found.vocab.model != model.vocab.model:
        raise InputError(f"{course.teacher}: its vocabulary is not that of {course.name}; train both anew.")
    return found.network


def _facts(course: Course, params: Params, *, left: int) -> dict[str, object]:
    """What a model's card says of a course; the pairs that are too long for it are told at once. left: pairs."""
    pairs, limit = corpus.count(course.text), params.data.max_tokens
    told = f"{left:,} of {pairs:,}; the others have more than {limit} pieces (data.max_tokens) or an empty side"
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


def _kept(course: Course, params: Params) -> Kept | None:
    """Where every course on this text with this teacher and top_k finds the shortlists."""
    if course.teacher is None or not course.top_k:
        return None
    key = resume.key(str(course.top_k), repr(params.data.max_tokens), params.precision, course.text, course.teacher)
    return Kept(course.top_k, resume.folder("shortlists") / key)


def _need(model: Model, lesson: Lesson, state: Path, machine: Machine) -> budget.Need:
    """What a training takes on this machine."""
    on_cpu = model.network.output.device.type == "cpu"
    return budget.course(
        lesson.label,
        model.network.shape,
        lesson.settings,
        budget.Extent.of(*lesson.text),
        vocab=model.vocab.size,
        workers=budget.processes(lesson.settings, machine) if on_cpu else 0,
        teacher=lesson.teacher.shape if lesson.teacher else None,
        keeping=state,
    )


def finish(model: Model, *followed: Followed, out: Path, curve_out: Path) -> None:
    """Writes the folder of a model that followed these courses, with what it reached on dev on its card, and its curve.

    Only then the trainings' states are given up.
    """
    course, settings, epochs = followed[-1][:3]
    dev = corpus.read(course.corpus / "dev.tsv")
    answers = search.decode(model.network, [model.vocab.encode(pair.source) for pair in dev], beam=1)
    texts = model.vocab.decode_all([best.ids for best, *_ in answers])
    reached = scores.bleu(texts, [pair.target for pair in dev])
    kept = epochs[-1] if settings.keep == "last" else min(epochs, key=lambda line: line.dev_perplexity)
    curve.write(curve_out, curve.joined(*(each.epochs for each in followed)))
    text = card.text(
        name=course.name,
        model=model,
        trainings=[each.facts for each in followed],
        about=followed[-1].about,
        dev={"perplexity": f"{kept.dev_perplexity:.2f}", "BLEU, greedy": f"{reached.value:.2f} ({reached.signature})"},
    )
    checkpoint.save(out, model, card=text)
    for each in followed:
        resume.done(each.state)
