"""A model's training, from the pipeline's files to its folder: what train, distill, finetune and prune share."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from seqkd import batches, card, checkpoint, config, corpus, curve, resume, scores, search, snapshot, trainer
from seqkd.checkpoint import Model
from seqkd.config import Machine, Optim, Params
from seqkd.curve import Epoch
from seqkd.model import Network, Shape
from seqkd.trainer import Lesson
from seqkd.vocab import Vocab


@dataclass(frozen=True)
class Course:
    """One training: its name, the text it reads, the loss, and where it stands in the pipeline."""

    name: str
    text: Path  # the pairs to train on
    corpus: Path  # the folder of dev.tsv and about.json
    settings: Optim
    start: str  # what the weights were before, in words
    alpha: float = 0.0
    teacher: Path | None = None


def fresh(vocab: Vocab, settings: config.Network, *, seed: int, device: torch.device) -> Model:
    """A network of a section of params.yaml with random weights, the same on every device."""
    network = Network(Shape(vocab.size, settings.layers, settings.hidden, settings.dropout))
    spreads = {"spread": settings.spread, "embedding_spread": settings.embedding_spread}
    network.start(torch.Generator().manual_seed(seed), **spreads)
    return Model(network.to(device), vocab, None)


def follow(model: Model, course: Course, params: Params, machine: Machine) -> list[Epoch]:
    """Trains model in place; takes up where an interrupted run of exactly this course ended."""
    where = model.network.output.device
    teacher = checkpoint.load(course.teacher, where).network if course.teacher and course.alpha else None
    files = [course.text, course.corpus, *([course.teacher] if course.teacher else [])]
    weights = torch.cat([parameter.detach().cpu().flatten() for parameter in model.network.parameters()])
    state = resume.folder(
        resume.key(
            repr(course),
            repr(params.data),
            repr(params.seed),
            params.precision,
            repr(machine),
            *files,
            weights.numpy().tobytes(),
        )
    )
    lesson = Lesson(
        text=batches.read(course.text, model.vocab, longest=params.data.max_tokens),
        dev=batches.read(course.corpus / "dev.tsv", model.vocab),
        settings=course.settings,
        seed=params.seed,
        alpha=course.alpha,
        teacher=teacher,
        mask=model.mask,
        label=course.name,
        resume=state,
    )
    epochs = trainer.train(model.network, lesson, machine)
    snapshot.clear(state)
    return epochs


def finish(model: Model, course: Course, epochs: list[Epoch], *, out: Path, curve_out: Path) -> None:
    """Writes the model's folder, with what it reached on dev on its card, and its curve."""
    dev = corpus.read(course.corpus / "dev.tsv")
    answers = search.decode(model.network, [model.vocab.encode(pair.source) for pair in dev], beam=1)
    reached = scores.bleu([model.vocab.decode(best.ids) for best, *_ in answers], [pair.target for pair in dev])
    about = json.loads((course.corpus / "about.json").read_text(encoding="utf-8"))
    kept = epochs[-1] if course.settings.keep == "last" else min(epochs, key=lambda line: line.dev_perplexity)
    curve.write(curve_out, epochs)
    text = card.text(
        name=course.name,
        model=model,
        settings={
            "text": course.text.stem,
            "start": course.start,
            "alpha": course.alpha,
            **course.settings.model_dump(),
        },
        about=about,
        dev={"perplexity": f"{kept.dev_perplexity:.2f}", "BLEU, greedy": f"{reached.value:.2f} ({reached.signature})"},
    )
    checkpoint.save(out, model, card=text)
